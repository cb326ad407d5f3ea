-- End a lease. Args: terms, pool, id, execution, becomes (finished, failed,
-- canceled, queued or stalled) and, for the first two, record, error, result.
-- Returns the job's new status, or false if the lease is lost.
local pool, id, member = args.pool, args.id, args.id .. ':' .. args.execution

local function settle()
  local becomes = args.becomes
  if becomes == 'stalled' then return requeue_stalled(pool, id) end
  if becomes == 'queued' then return requeue(pool, id) end
  if becomes ~= 'canceled' then pace_ended(pool, server_time()) end
  local keep = becomes == 'finished' and terms.result_ttl_s or terms.failure_ttl_s
  return close(id, lane_of(pool, id), becomes, keep, args)
end

if redis.call('ZREM', leases_key(pool), member) == 0 then
  -- If this worker has ended it already, and only the answer was lost: the same answer again.
  local settled, status = string.match(field(id, 'settled') or '', '^(%S+) (%S+)$')
  return settled == member and status
end
forget(pool, id, args.execution, terms.worker)
if redis.call('EXISTS', job_key(id)) == 0 then return false end  -- deleted by another program
local status = settle()
if redis.call('EXISTS', job_key(id)) == 1 then  -- not if it was to be deleted
  redis.call('HSET', job_key(id), 'settled', member .. ' ' .. status)
end
return status
