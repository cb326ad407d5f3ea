-- Delete a job: at once unless it runs, else when it ends, which it then does soon. Args: id, client
-- (missing: any), keep (seconds). Returns true, also if it was deleted before; false if the client has no
-- such job. Whoever waits for the job is told that it was cancelled.
local id = args.id
expire_if_late(id)
local status = field(id, 'status')
local owner = field(id, 'client') or redis.call('GET', deleted_key(id))
if not owner or (args.client and owner ~= args.client) then return false end

if status == 'started' then
  redis.call('HSET', job_key(id), 'cancel', 1, 'deleted', 1)
  unindex(id, owner)
  publish_state(id, 'canceled', args.keep)
elseif status then
  if status == 'queued' then publish_state(id, 'canceled', args.keep) end
  remove(id, 0)
end
return true
