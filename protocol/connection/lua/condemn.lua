-- ARGV: seconds that deleting may take, keys of inputs. Answers those that nobody holds: they may be
-- deleted, and cannot be held before that is done.
local now, free = server_time(), {}
redis.call('ZREMRANGEBYSCORE', held_key, '-inf', now)
for i = 2, #ARGV do
  if not redis.call('ZSCORE', held_key, ARGV[i]) then
    redis.call('SET', condemned_key(ARGV[i]), 1, 'EX', ARGV[1])
    free[#free + 1] = ARGV[i]
  end
end
return free
