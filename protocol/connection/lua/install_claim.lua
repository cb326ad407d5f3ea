-- Claim the oldest install that no worker holds. Args: token, lease_s, most (attempts), kept_s. Returns its
-- id, or nothing. A repeated call returns the install of the first.
local now = server_time()
local open = open_installs()
for _, id in ipairs(open) do
  if redis.call('HGET', install_key(id), 'token') == args.token then return id end
end
for _, id in ipairs(open) do
  if tonumber(redis.call('ZSCORE', open_installs_key, id)) <= now then
    if redis.call('HINCRBY', install_key(id), 'attempts', 1) <= args.most then
      redis.call('HSET', install_key(id), 'state', 'running', 'token', args.token)
      redis.call('EXPIRE', install_key(id), args.kept_s)
      redis.call('ZADD', open_installs_key, now + args.lease_s, id)
      return id
    end
    redis.call('HSET', install_key(id), 'state', 'failed', 'part', '',
               'error', 'every worker that tried it broke down')
    redis.call('ZREM', open_installs_key, id)
  end
end
return false
