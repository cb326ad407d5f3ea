-- Mark inputs that are not pinned for deletion, so that they cannot be pinned until it is done. Args:
-- seconds (that a deletion may take), keys. Returns the marked ones.
local marked = {}
redis.call('ZREMRANGEBYSCORE', pins_key, '-inf', server_time())
for _, input in ipairs(args.keys) do
  if not redis.call('ZSCORE', pins_key, input) then
    redis.call('SET', deletion_key(input), 1, 'EX', args.seconds)
    marked[#marked + 1] = input
  end
end
return marked
