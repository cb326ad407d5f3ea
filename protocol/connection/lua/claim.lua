-- ARGV: terms, execution id, "1" if the worker runs nothing, now as RQ writes it, then pools: the one
-- whose turn it is first. Takes a job of the first pool that has one.
-- An execution id that was used before repeats the answer that got lost. Told of a job at last: how
-- many others wait in these pools, and its own pool.
local execution, idle, now_text = ARGV[2], ARGV[3] == '1', ARGV[4]
local last = ours .. ':claim:' .. terms.worker
local now = server_time()

local function waiting_anywhere()
  local waiting = 0
  for i = 5, #ARGV do waiting = waiting + waiting_in_all(ARGV[i]) end
  return waiting
end

local function told(id)
  local found = redis.call('HMGET', job_key(id), 'data', 'enqueued_at', 'crashes', 'meta',
                           'deadline_at')
  local left = tonumber(found[5] or nil)
  return {id, found[1] or '', found[2] or '', found[3] or '0', found[4] or '',
          left and tostring(left - now) or '', waiting_anywhere(), pool}
end

local function is_suspect(id)
  local crashes = field(id, 'crashes')
  return crashes and (tonumber(crashes) or terms.alone_from) >= terms.alone_from
end

-- The higher lane goes first. But each time that a lane with work is passed over is counted, and
-- one passed over `patience` times has a turn: so nobody waits for ever.
local function next_turn()
  local turn, passed, id, place
  for _, lane in ipairs(lanes_of(pool)) do
    local head, its_place = head_of(lane)
    if head then
      local times = tonumber(redis.call('HGET', lane_key(lane), 'passed') or 0)
      if not turn or (times >= terms.patience and times > passed) then
        turn, passed, id, place = lane, times, head, its_place
      end
    end
  end
  return turn, id, place
end

local function count_turn(turn)
  local below = false
  for _, lane in ipairs(lanes_of(pool)) do
    if below and waiting_in(lane) > 0 then redis.call('HINCRBY', lane_key(lane), 'passed', 1) end
    if lane == turn then
      redis.call('HDEL', lane_key(lane), 'passed')
      below = true
    end
  end
end

local function take(lane, id, place)
  local stands = math.max(tonumber(redis.call('HGET', lane_key(lane), 'stands') or 0),
                          tonumber(redis.call('ZSCORE', order_key(lane), place)))
  redis.call('HSET', lane_key(lane), 'stands', stands)
  redis.call('ZREMRANGEBYSCORE', finish_key(lane), '-inf', stands)  -- owed nothing any more
  count_turn(lane)
  leave(pool, lane, id)
  local running = redis.call('ZCARD', leases_key(pool))
  pace_taken(pool, now, waiting_in_all(pool), running)

  local job, member = job_key(id), id .. ':' .. execution
  local stays = math.ceil(6 * terms.lease_s)
  redis.call('ZADD', leases_key(pool), now + terms.lease_s, member)
  redis.call('SET', last, execution .. ':' .. id .. ':' .. pool, 'EX', stays)
  redis.call('HSET', job, 'status', 'started', 'started_at', now_text,
             'worker_name', terms.worker, 'last_heartbeat', now_text)
  redis.call('PERSIST', job)
  -- For RQ's tools. Never due, so that none of them takes the job back: that is our reaper's.
  redis.call('ZADD', registry_key('wip', lane), '+inf', member)
  redis.call('HSET', execution_key(member), 'id', execution, 'job_id', id,
             'worker_name', terms.worker, 'created_at', now, 'last_heartbeat', now)
  redis.call('EXPIRE', execution_key(member), stays)
  redis.call('ZADD', executions_key(id), now + stays, execution)
  redis.call('EXPIRE', executions_key(id), stays)
  redis.call('SADD', worker_executions_key(terms.worker), member)
  redis.call('EXPIRE', worker_executions_key(terms.worker), stays)
  return told(id)
end

local before = redis.call('GET', last)
if before and string.sub(before, 1, #execution + 1) == execution .. ':' then
  local id
  id, pool = string.match(before, '^[^:]*:([^:]*):(.*)$')
  if redis.call('ZSCORE', leases_key(pool), id .. ':' .. execution) then return told(id) end
end

-- What is next in the pool; what is late by now is dropped on the way.
local function next_in_time()
  while true do
    local lane, id, place = next_turn()
    if not lane or (tonumber(field(id, 'deadline_at')) or math.huge) > now then
      return lane, id, place
    end
    drop_late(pool, lane, id, terms.failure_ttl_s, now_text)
  end
end

for i = 5, #ARGV do
  pool = ARGV[i]
  local lane, id, place = next_in_time()
  -- A suspect waits for a worker with nothing to lose; and what is behind waits with it, in this
  -- pool and in those whose turn is later, or a steady stream of others would keep every worker busy
  -- and the suspect waiting for ever.
  if lane and not idle and is_suspect(id) then return false end
  if lane then return take(lane, id, place) end
end
return false
