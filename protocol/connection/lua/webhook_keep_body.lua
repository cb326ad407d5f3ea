-- Keep the body of a call. Args: id, lease. ARGV[2]: the body. Returns 1, or 0 if the webhook is no longer
-- claimed with that lease: it was deleted or lost with Redis' data, or another process has claimed it.
local kept = webhook_key(args.id)
if redis.call('HGET', kept, 'leased_until') ~= args.lease then return 0 end
redis.call('HSET', kept, 'body', ARGV[2])
return 1
