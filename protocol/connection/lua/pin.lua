-- Pin inputs for a time. Args: seconds, keys. Returns those that are being deleted now: they can be
-- pinned, and written, a little later.
local until_, deleting = server_time() + args.seconds, {}
for _, input in ipairs(args.keys) do
  if redis.call('EXISTS', deletion_key(input)) == 1 then
    deleting[#deleting + 1] = input
  else
    redis.call('ZADD', pins_key, 'GT', until_, input)
  end
end
return deleting
