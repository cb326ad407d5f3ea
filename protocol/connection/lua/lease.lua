-- Who holds what. ARGV[1] of every script here are the terms, as JSON: see worker.consumer.leases. `pool` is
-- the one that it is about: ARGV[2], or, for a script that looks through several, each in its turn.
local terms = cjson.decode(ARGV[1])
local pool = ARGV[2]

local function execution_key(member) return rq .. ':execution:' .. member end
local function executions_key(id) return rq .. ':executions:' .. id end
local function worker_executions_key(worker) return rq .. ':worker:' .. worker .. ':executions' end

local function forget(id, execution)
  local member = id .. ':' .. execution
  -- Of whoever held it, who may live on and never hear that it lost it.
  local holder = field(id, 'worker_name') or terms.worker
  redis.call('SREM', worker_executions_key(holder), member)
  redis.call('ZREM', registry_key('wip', lane_of(pool, id)), member)
  redis.call('DEL', execution_key(member))
  redis.call('ZREM', executions_key(id), execution)
end

-- To the front of its lane, for it has waited once; unless it was asked to stop meanwhile.
local function again(id, ended_at)
  local lane = lane_of(pool, id)
  if redis.call('HEXISTS', job_key(id), 'cancel') == 1 then
    return close(id, lane, 'canceled', terms.failure_ttl_s, ended_at)
  end
  redis.call('HSET', job_key(id), 'status', 'queued')
  join_in_front(pool, lane, id)
  tell(id, 'queued', terms.failure_ttl_s)
  return 'queued'
end

-- Once more under suspicion, or never again.
local function again_as_suspect(id, ended_at)
  local crashes = redis.pcall('HINCRBY', job_key(id), 'crashes', 1)
  if type(crashes) == 'number' and crashes < terms.max_crashes then
    return again(id, ended_at)
  end
  return close(id, lane_of(pool, id), 'failed', terms.failure_ttl_s, ended_at,
               terms.poison_error, terms.poison_record)
end
