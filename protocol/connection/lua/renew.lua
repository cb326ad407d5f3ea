-- ARGV: terms, pool, members. A lease that has run out but was not taken back yet is renewed.
-- Answers those that are gone.
local now, lost = server_time(), {}
local stays = math.ceil(6 * terms.lease_s)
for i = 3, #ARGV do
  local member = ARGV[i]
  if redis.call('ZSCORE', leases_key(pool), member) then
    redis.call('ZADD', leases_key(pool), now + terms.lease_s, member)
    if redis.call('EXPIRE', execution_key(member), stays) == 1 then
      redis.call('HSET', execution_key(member), 'last_heartbeat', now)
    end
  else
    lost[#lost + 1] = member
  end
end
return lost
