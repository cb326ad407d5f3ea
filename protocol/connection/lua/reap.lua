-- ARGV: terms, '', now as RQ writes it, pools. Takes back what the dead held, sweeps RQ's lists of the
-- ended. Answers (job id, new status) pairs, flat.
local now, ended_at, taken = server_time(), ARGV[3], {}

local function take_back(member)
  local id, execution = string.match(member, '^(.*):([^:]*)$')
  redis.call('ZREM', leases_key(pool), member)
  forget(id, execution)
  if field(id, 'status') == 'started' then
    taken[#taken + 1] = id
    taken[#taken + 1] = again_as_suspect(id, ended_at)
  end
end

for i = 4, #ARGV do
  pool = ARGV[i]
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', leases_key(pool), 0, now, 'LIMIT', 0, 100)) do
    take_back(member)
  end
  for _, lane in ipairs(lanes_of(pool)) do
    for _, kind in ipairs({'finished', 'failed', 'canceled'}) do
      redis.call('ZREMRANGEBYSCORE', registry_key(kind, lane), 0, now)
    end
  end
end
return taken
