-- Claim webhooks that are due. Args: most, lease_s. Returns for each: job id, target, attempts, body, told,
-- lease (a text that no other claim has).
-- One that is being called stays claimed, also if its job ends meanwhile: calls are made one by one.
local now = server_time()
local claimed = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', webhooks_key, '-inf', now, 'LIMIT', 0, args.most)) do
  expire_if_late(id)
  local target, attempts, body, told, leased = unpack(redis.call(
    'HMGET', webhook_key(id), 'target', 'attempts', 'body', 'told', 'leased_until'))
  leased = tonumber(leased or 0)
  if not target then
    redis.call('ZREM', webhooks_key, id)
  elseif leased > now then
    redis.call('ZADD', webhooks_key, leased, id)
  else
    redis.call('ZADD', webhooks_key, now + args.lease_s, id)
    redis.call('HSET', webhook_key(id), 'leased_until', now + args.lease_s)
    local lease = redis.call('HGET', webhook_key(id), 'leased_until')
    claimed[#claimed + 1] = {id, target, attempts or '0', body or '', told or '', lease}
  end
end
return claimed
