-- Pin inputs for a time. Args: seconds, keys, id (of the job that needs them). Returns those that are being deleted now: they can be
-- pinned, and written, a little later.
local until_, deleting = server_time() + args.seconds, {}
for _, input in ipairs(args.keys) do
  if redis.call('EXISTS', deletion_key(input)) == 1 then
    deleting[#deleting + 1] = input
  else
    pin_input(input, args.id, until_)
  end
end
return deleting
