-- Queue a job. Args: pool, lane, id, client, work, max_waiting, max_waiting_of_client, deadline_s (if
-- the client set one), max_jobs (of the client that wait or run, if that is limited), rates (of the
-- client), inputs (keys of the store), pin_s, life_s, fields (further ones of the job's hash: names and
-- values, flat). ARGV[2] is the hash's `data`, which is not text.
-- Returns what happened and, for a refusal, the number of waiting jobs (or the wait), and the rate. All
-- is taken here, and only if the job is queued: a job that is refused, or known, costs its client
-- nothing.
local pool, lane, id, client = args.pool, args.lane, args.id, args.client

if redis.call('EXISTS', job_key(id)) == 1 then return {'known'} end
expire_all(pool, {})

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

if args.max_jobs and not has_room(client, args.max_jobs) then return {'jobs'} end
for i, limit in ipairs(args.rates) do
  local wait = wait_ms(client, limit)
  if wait > 0 then return {'rate', i - 1, wait} end
end

-- The inputs were pinned before they were written. Redis may have lost those pins since.
for _, input in ipairs(args.inputs) do
  if redis.call('EXISTS', deletion_key(input)) == 1 then return {'deleting'} end
end
for _, input in ipairs(args.inputs) do
  redis.call('ZADD', pins_key, 'GT', server_time() + args.pin_s, input)
end

for _, limit in ipairs(args.rates) do take(client, limit) end
if args.max_jobs then count_job(client, id) end
local now = rq_time()
redis.call('HSET', job_key(id), 'status', 'queued', 'origin', lane, 'client', client,
           'work', args.work, 'deadline_at', server_time() + args.life_s, 'enqueued_at', now,
           'created_at', now, 'data', ARGV[2], unpack(args.fields))
redis.call('SADD', rq .. ':queues', list_key(lane))
enqueue(pool, lane, id, client, args.work)
redis.call('PUBLISH', ours .. ':wake:' .. pool, id)
return {'queued'}
