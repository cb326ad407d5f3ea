-- Change an install. Args: id, token, fields, kept_s, and one of lease_s (renew), released, has_ended.
-- Returns 1, or 0 if another worker holds the install or it has ended.
local install = install_key(args.id)
if redis.call('HGET', install, 'token') ~= args.token then return 0 end
if not redis.call('ZSCORE', open_installs_key, args.id) then return 0 end
for name, value in pairs(args.fields) do redis.call('HSET', install, name, value) end
redis.call('EXPIRE', install, args.kept_s)
if args.has_ended then
  redis.call('ZREM', open_installs_key, args.id)
else
  redis.call('ZADD', open_installs_key, server_time() + args.lease_s, args.id)
end
if args.released then
  redis.call('HDEL', install, 'token')
  redis.call('HINCRBY', install, 'attempts', -1)
end
return 1
