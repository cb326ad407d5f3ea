-- Queue an install. Args: id, request, most (open installs), kept (records), kept_s. Returns its id, or that
-- of an open install with an equal request, or the number of open installs if there are too many.
local open = open_installs()
for _, id in ipairs(open) do
  if redis.call('HGET', install_key(id), 'request') == args.request then return id end
end
if #open >= args.most then return #open end

local now = server_time()
redis.call('HSET', install_key(args.id), 'request', args.request, 'created_at', now,
           'state', 'queued', 'share', 0, 'part', '', 'attempts', 0)
redis.call('EXPIRE', install_key(args.id), args.kept_s)
redis.call('ZADD', installs_key, now, args.id)
redis.call('ZADD', open_installs_key, now, args.id)

for _, id in ipairs(redis.call('ZRANGE', installs_key, 0, -1 - args.kept)) do
  if id ~= args.id and not redis.call('ZSCORE', open_installs_key, id) then
    redis.call('DEL', install_key(id))
    redis.call('ZREM', installs_key, id)
  end
end
return args.id
