-- ARGV: pool, lane, job id, client, work, most waiting, most waiting of one client, deadline in
-- seconds or '', seconds it may live, seconds to keep what fails, now as RQ writes it, then the job's
-- hash.
-- Answers what came of it, and for a refusal: how many wait (or how long it would), and the rate.
local pool, lane, id, client, work = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local most, most_of_client, deadline_s = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local life_s, keep, now_text = tonumber(ARGV[9]), ARGV[10], ARGV[11]

if redis.call('EXISTS', job_key(id)) == 1 then return {'known'} end
drop_all_late(pool, keep, now_text)

local waiting, rate = waiting_in_all(pool), rate_of(pool)
if waiting >= most then return {'full', waiting, tostring(rate)} end

if client ~= '' then
  local key = client_key(pool, client)
  local mine = redis.call('SCARD', key)
  if mine >= most_of_client then
    -- Before refusing, forget those that RQ's tools took out without our knowing.
    for _, other in ipairs(redis.call('SMEMBERS', key)) do
      if field(other, 'status') ~= 'queued' then redis.call('SREM', key, other) end
    end
    mine = redis.call('SCARD', key)
    if mine >= most_of_client then return {'client', mine, tostring(rate)} end
  end
end

if deadline_s then
  local ahead = redis.call('ZCOUNT', order_key(lane), '-inf', tag_for(lane, client))
  for _, other in ipairs(lanes_of(pool)) do
    if other == lane then break end
    ahead = ahead + waiting_in(other)
  end
  if rate > 0 and ahead / rate > deadline_s then
    return {'late', tostring(ahead / rate), tostring(rate)}
  end
end

redis.call('HSET', job_key(id), 'status', 'queued', 'origin', lane, 'client', client,
           'work', work, 'deadline_at', server_time() + life_s,
           'enqueued_at', now_text, 'created_at', now_text, unpack(ARGV, 12))
redis.call('SADD', rq .. ':queues', list_key(lane))
join(pool, lane, id, client, work)
redis.call('PUBLISH', ours .. ':wake:' .. pool, id)
return {'queued'}
