-- Cancel an install that has not ended. Args: id, kept_s. Its worker can no longer report.
if redis.call('ZREM', open_installs_key, args.id) == 0 then return 0 end
local install = install_key(args.id)
if redis.call('EXISTS', install) == 0 then return 0 end
redis.call('HSET', install, 'state', 'cancelled', 'part', '')
redis.call('HDEL', install, 'token')
redis.call('EXPIRE', install, args.kept_s)
return 1
