-- ARGV: terms, pool, job id, execution id, now as RQ writes it, what becomes of the job as JSON.
-- Answers the job's new status, or nothing if the lease is no longer held.
local id, execution, ended_at, ending = ARGV[3], ARGV[4], ARGV[5], cjson.decode(ARGV[6])
local job, member = job_key(id), id .. ':' .. execution

if redis.call('ZREM', leases_key(pool), member) == 0 then
  -- Ended by us already, and only the answer got lost? Then the same answer again.
  local settled, answer = string.match(field(id, 'settled') or '', '^(%S+) (%S+)$')
  return settled == member and answer
end
forget(id, execution)
if redis.call('EXISTS', job) == 0 then return false end  -- deleted under our hands

local lane, status = lane_of(pool, id), nil
if ending.becomes == 'finished' then
  pace_ended(pool, server_time())
  status = close(
    id, lane, 'finished', terms.result_ttl_s, ended_at, nil, ending.record, ending.result)
elseif ending.becomes == 'failed' then
  pace_ended(pool, server_time())
  status = close(id, lane, 'failed', terms.failure_ttl_s, ended_at, ending.error, ending.record)
elseif ending.becomes == 'canceled' then
  status = close(id, lane, 'canceled', terms.failure_ttl_s, ended_at)
elseif ending.becomes == 'suspect' then
  status = again_as_suspect(id, ended_at)
else
  status = again(id, ended_at)
end
redis.call('HSET', job, 'settled', member .. ' ' .. status)
return status
