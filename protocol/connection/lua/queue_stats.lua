-- Count jobs and workers, after waiting jobs whose deadlines have passed were failed. Args: pools.
-- Returns first RQ's workers as {name, queues, state, succeeded, failed, seconds} each; then, for each
-- lane of each pool, {name, seconds for which the first job has waited, jobs by kind}.
local KINDS = {'wip', 'finished', 'failed', 'canceled', 'deferred', 'scheduled'}

local function worker(key)
  local found = redis.call('HMGET', key, 'queues', 'state', 'successful_job_count',
                           'failed_job_count', 'total_working_time')
  if not found[1] then return nil end
  return {string.sub(key, #rq + #':worker:' + 1), found[1], found[2] or '?',
          found[3] or '0', found[4] or '0', found[5] or '0'}
end

-- The list is in order of arrival, except for requeued jobs, which are in front.
local function oldest(lane)
  local id = redis.call('LINDEX', list_key(lane), 0)
  return tostring(id and seconds_since(field(id, 'enqueued_at') or '') or 0)
end

local workers, lanes = {}, {}
for _, key in ipairs(redis.call('SMEMBERS', rq .. ':workers')) do workers[#workers + 1] = worker(key) end
for _, pool in ipairs(args.pools) do
  expire_all(pool, {})
  for _, lane in ipairs(lanes_of(pool)) do
    local counts = {waiting_in(lane)}
    for _, kind in ipairs(KINDS) do
      counts[#counts + 1] = redis.call('ZCARD', registry_key(kind, lane))
    end
    lanes[#lanes + 1] = {lane, oldest(lane), counts}
  end
end
return {workers, lanes}
