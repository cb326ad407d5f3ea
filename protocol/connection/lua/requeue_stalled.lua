-- Requeue the jobs whose leases have expired, and remove expired jobs from RQ's registries and
-- the index. Args: terms, pools. Returns (job id, new status) pairs, flat.
local now, requeued = server_time(), {}
expire_index()

for _, pool in ipairs(args.pools) do
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', leases_key(pool), 0, now, 'LIMIT', 0, 100)) do
    local id, execution = string.match(member, '^(.*):([^:]*)$')
    redis.call('ZREM', leases_key(pool), member)
    forget(pool, id, execution, terms.worker)
    if field(id, 'status') == 'started' then
      requeued[#requeued + 1] = id
      requeued[#requeued + 1] = requeue_stalled(pool, id)
    end
  end
  for _, lane in ipairs(lanes_of(pool)) do
    for _, kind in ipairs({'finished', 'failed', 'canceled'}) do
      redis.call('ZREMRANGEBYSCORE', registry_key(kind, lane), 0, now)
    end
  end
end
return requeued
