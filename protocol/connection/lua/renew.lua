-- Renew leases, also those that have expired but were not requeued yet. Args: terms, pool, members.
-- Returns the members whose leases are lost, also those of jobs whose records were deleted.
local now, lost = server_time(), {}
for _, member in ipairs(args.members) do
  local id, execution = string.match(member, '^(.*):([^:]*)$')
  if redis.call('EXISTS', job_key(id)) == 0 and redis.call('ZREM', leases_key(args.pool), member) == 1 then
    forget(args.pool, id, execution, terms.worker)
  end
  if redis.call('ZSCORE', leases_key(args.pool), member) then
    redis.call('ZADD', leases_key(args.pool), now + terms.lease_s, member)
    if redis.call('EXPIRE', execution_key(member), math.ceil(6 * terms.lease_s)) == 1 then
      redis.call('HSET', execution_key(member), 'last_heartbeat', now)
    end
  else
    lost[#lost + 1] = member
  end
end
return lost
