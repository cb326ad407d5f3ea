-- Read a batch. Args: batch. Returns its client, the number of its jobs, and how many of them have each
-- of RQ's statuses, as a flat list; nil if there is no such batch. A job without a record has the status
-- "gone".
local client, count = unpack(redis.call('HMGET', batch_key(args.batch), 'client', 'count'))
if not count then return nil end
local numbers = {}
for i = 0, tonumber(count) - 1 do
  local id = batch_job(args.batch, i)
  expire_if_late(id)
  local status = field(id, 'status') or 'gone'
  numbers[status] = (numbers[status] or 0) + 1
end
local found = {client, tonumber(count)}
for status, number in pairs(numbers) do
  found[#found + 1] = status
  found[#found + 1] = number
end
return found
