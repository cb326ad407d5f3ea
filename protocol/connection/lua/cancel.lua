-- Cancel a job, at once while it waits, or by a mark for its worker. Args: id, client (missing: any),
-- keep (seconds). Returns the job's view then. One atomic step, so that a job is
-- either never begun or carries the mark.
local id = args.id
expire_if_late(id)
local status = field(id, 'status')
if not args.client or field(id, 'client') == args.client then
  if status == 'queued' then
    local pool = pool_of(id)
    local lane = lane_of(pool, id)
    dequeue(pool, lane, id)
    close(id, lane, 'canceled', args.keep, {})
  elseif status == 'started' then
    redis.call('HSET', job_key(id), 'cancel', 1)
  end
end
return view_of(id)
