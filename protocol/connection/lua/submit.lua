-- Queue a job. Args: pool, lane, id, client, work, max_waiting, max_waiting_of_client, deadline_s (if
-- the client set one), life_s, failure_ttl_s, now (as RQ writes it), fields (further ones of the job's
-- hash: names and values, flat). ARGV[2] is the hash's `data`, which is no text.
-- Returns what happened and, for a refusal, the number of waiting jobs (or the wait), and the rate.
local pool, lane, id, client = args.pool, args.lane, args.id, args.client

if redis.call('EXISTS', job_key(id)) == 1 then return {'known'} end
expire_all(pool, args.failure_ttl_s, args.now, {})

local waiting, rate = waiting_in_pool(pool), rate_of(pool)
if waiting >= args.max_waiting then return {'full', waiting, tostring(rate)} end

if client ~= '' then
  local key = client_key(pool, client)
  local mine = redis.call('SCARD', key)
  if mine >= args.max_waiting_of_client then
    -- Before a refusal, forget jobs that RQ's tools have removed from the queue.
    for _, other in ipairs(redis.call('SMEMBERS', key)) do
      if field(other, 'status') ~= 'queued' then redis.call('SREM', key, other) end
    end
    mine = redis.call('SCARD', key)
    if mine >= args.max_waiting_of_client then return {'client', mine, tostring(rate)} end
  end
end

if args.deadline_s then
  local ahead = redis.call('ZCOUNT', order_key(lane), '-inf', tag_for(lane, client))
  for _, other in ipairs(lanes_of(pool)) do
    if other == lane then break end
    ahead = ahead + waiting_in(other)
  end
  if rate > 0 and ahead / rate > args.deadline_s then
    return {'late', tostring(ahead / rate), tostring(rate)}
  end
end

redis.call('HSET', job_key(id), 'status', 'queued', 'origin', lane, 'client', client,
           'work', args.work, 'deadline_at', server_time() + args.life_s, 'enqueued_at', args.now,
           'created_at', args.now, 'data', ARGV[2], unpack(args.fields))
redis.call('SADD', rq .. ':queues', list_key(lane))
enqueue(pool, lane, id, client, args.work)
redis.call('PUBLISH', ours .. ':wake:' .. pool, id)
return {'queued'}
