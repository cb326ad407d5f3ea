-- Make a webhook due again. Args: id, delay_s, attempts, told (of its job), at_end (it is due at once if
-- its job has ended meanwhile). Nothing is written for one that was deleted meanwhile.
local kept = webhook_key(args.id)
if redis.call('EXISTS', kept) == 0 then return end
local status = field(args.id, 'status')
local goes_on = status == 'queued' or status == 'started'
local delay_s = args.at_end and not goes_on and 0 or args.delay_s
redis.call('HSET', kept, 'attempts', args.attempts, 'told', args.told)
redis.call('HDEL', kept, 'leased_until')
redis.call('ZADD', webhooks_key, 'XX', server_time() + delay_s, args.id)
