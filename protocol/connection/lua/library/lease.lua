-- Leases: the workers that hold jobs. args.terms are those of worker.consumer.leases.
local terms = args.terms

local function execution_key(member) return rq .. ':execution:' .. member end
local function executions_key(id) return rq .. ':executions:' .. id end
local function worker_executions_key(worker) return rq .. ':worker:' .. worker .. ':executions' end

-- Remove an execution from RQ's records.
local function forget(pool, id, execution)
  local member = id .. ':' .. execution
  -- Of the worker that held it, which may be alive without knowing that it lost it.
  local holder = field(id, 'worker_name') or terms.worker
  redis.call('SREM', worker_executions_key(holder), member)
  -- Of every lane: without a record, the job's own is not known.
  for _, lane in ipairs(lanes_of(pool)) do redis.call('ZREM', registry_key('wip', lane), member) end
  redis.call('DEL', execution_key(member))
  redis.call('ZREM', executions_key(id), execution)
end

-- To the front of its lane, because it has waited once; but cancel it if a client asked for that.
local function requeue(pool, id, ended_at)
  local lane = lane_of(pool, id)
  if redis.call('HEXISTS', job_key(id), 'cancel') == 1 then
    return close(id, lane, 'canceled', terms.failure_ttl_s, ended_at, {})
  end
  redis.call('HSET', job_key(id), 'status', 'queued')
  enqueue_first(pool, lane, id)
  publish_state(id, 'queued', terms.failure_ttl_s)
  return 'queued'
end

-- Requeue a job that may have stopped a worker, or fail it after too many of them.
local function requeue_stalled(pool, id, ended_at)
  local stalled = redis.pcall('HINCRBY', job_key(id), 'crashes', 1)
  if type(stalled) == 'number' and stalled < terms.max_stalled then
    return requeue(pool, id, ended_at)
  end
  local outcome = {error = terms.stalled_error, record = terms.stalled_record}
  return close(id, lane_of(pool, id), 'failed', terms.failure_ttl_s, ended_at, outcome)
end
