-- Claim a job of the first pool that has one. Args: terms, execution, idle (the worker runs nothing),
-- pools (in the worker's order).
-- An execution that was used before repeats the answer that was lost. The answer ends in the number of
-- other jobs that wait in these pools, and the job's pool; times in it are durations, in seconds.
local execution, last = args.execution, ours .. ':claim:' .. terms.worker
local now = server_time()

local function answer(pool, id)
  local found = redis.call('HMGET', job_key(id), 'data', 'enqueued_at', 'crashes', 'meta',
                           'deadline_at')
  local queued_s, left = seconds_since(found[2] or ''), tonumber(found[5] or nil)
  local waiting = 0
  for _, other in ipairs(args.pools) do waiting = waiting + waiting_in_pool(other) end
  return {id, found[1] or '', queued_s and tostring(queued_s) or '', found[3] or '0', found[4] or '',
          left and tostring(left - now) or '', waiting, pool}
end

local function runs_alone(id)
  local stalled = field(id, 'crashes')
  return stalled and (tonumber(stalled) or terms.alone_from) >= terms.alone_from
end

-- The higher lane is served first. But each time a lane with waiting jobs is passed over is counted,
-- and a lane passed over `patience` times is served: so no job waits for ever.
local function next_of(pool)
  local chosen, passed, id, place
  for _, lane in ipairs(lanes_of(pool)) do
    local head, its_place = head_of(lane)
    if head then
      local times = tonumber(redis.call('HGET', lane_key(lane), 'passed') or 0)
      if not chosen or (times >= terms.patience and times > passed) then
        chosen, passed, id, place = lane, times, head, its_place
      end
    end
  end
  return chosen, id, place
end

local function count_passed(pool, served)
  local below = false
  for _, lane in ipairs(lanes_of(pool)) do
    if below and waiting_in(lane) > 0 then redis.call('HINCRBY', lane_key(lane), 'passed', 1) end
    if lane == served then
      redis.call('HDEL', lane_key(lane), 'passed')
      below = true
    end
  end
end

local function lease(pool, lane, id)
  local member, ttl = id .. ':' .. execution, math.ceil(6 * terms.lease_s)
  redis.call('ZADD', leases_key(pool), now + terms.lease_s, member)
  redis.call('SET', last, execution .. ':' .. id .. ':' .. pool, 'EX', ttl)
  local written = rq_time()
  redis.call('HSET', job_key(id), 'status', 'started', 'started_at', written,
             'worker_name', terms.worker, 'last_heartbeat', written)
  redis.call('PERSIST', job_key(id))
  if redis.call('HEXISTS', webhook_key(id), 'watches') == 1 then
    redis.call('ZADD', webhooks_key, 'XX', now, id)
  end
  -- For RQ's tools. Never due, so that none of them requeues the job: requeue_stalled does.
  redis.call('ZADD', registry_key('wip', lane), '+inf', member)
  redis.call('HSET', execution_key(member), 'id', execution, 'job_id', id,
             'worker_name', terms.worker, 'created_at', now, 'last_heartbeat', now)
  redis.call('EXPIRE', execution_key(member), ttl)
  redis.call('ZADD', executions_key(id), now + ttl, execution)
  redis.call('EXPIRE', executions_key(id), ttl)
  redis.call('SADD', worker_executions_key(terms.worker), member)
  redis.call('EXPIRE', worker_executions_key(terms.worker), ttl)
end

local function claim(pool, lane, id, place)
  local tag = math.max(tonumber(redis.call('HGET', lane_key(lane), 'stands') or 0),
                       tonumber(redis.call('ZSCORE', order_key(lane), place)))
  redis.call('HSET', lane_key(lane), 'stands', tag)
  redis.call('ZREMRANGEBYSCORE', finish_key(lane), '-inf', tag)  -- no longer owed anything
  count_passed(pool, lane)
  dequeue(pool, lane, id)
  pace_claimed(pool, now, waiting_in_pool(pool), redis.call('ZCARD', leases_key(pool)))
  lease(pool, lane, id)
  return answer(pool, id)
end

local before = redis.call('GET', last)
if before and string.sub(before, 1, #execution + 1) == execution .. ':' then
  local id, pool = string.match(before, '^[^:]*:([^:]*):(.*)$')
  if redis.call('ZSCORE', leases_key(pool), id .. ':' .. execution) then return answer(pool, id) end
end

-- The next job whose deadline has not passed; those before it fail.
local function next_in_time(pool)
  while true do
    local lane, id, place = next_of(pool)
    if not lane or (tonumber(field(id, 'deadline_at')) or math.huge) > now then
      return lane, id, place
    end
    expire(pool, lane, id)
  end
end

for _, pool in ipairs(args.pools) do
  local lane, id, place = next_in_time(pool)
  -- A job that must run alone waits for an idle worker; and the jobs behind it wait too, in this pool
  -- and in the later ones. Else a steady stream of others would keep every worker busy for ever.
  if lane and not args.idle and runs_alone(id) then return false end
  if lane then return claim(pool, lane, id, place) end
end
return false
