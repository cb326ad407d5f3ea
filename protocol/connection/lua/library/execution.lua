-- RQ's records of executions: that a worker holds a job.

local function execution_key(member) return rq .. ':execution:' .. member end
local function executions_key(id) return rq .. ':executions:' .. id end
local function worker_executions_key(worker) return rq .. ':worker:' .. worker .. ':executions' end

-- Remove an execution from RQ's records; `worker` held it, unless the job names another.
local function forget(pool, id, execution, worker)
  local member = id .. ':' .. execution
  -- Of the worker that held it, which may be alive without knowing that it lost it.
  local holder = field(id, 'worker_name') or worker
  if holder then redis.call('SREM', worker_executions_key(holder), member) end
  -- Of every lane: without a record, the job's own is not known.
  for _, lane in ipairs(lanes_of(pool)) do redis.call('ZREM', registry_key('wip', lane), member) end
  redis.call('DEL', execution_key(member))
  redis.call('ZREM', executions_key(id), execution)
end

-- Take a job's leases from whoever holds them. A lease is the fence: without it, a worker's late result
-- is refused.
local function revoke_leases(pool, id)
  for _, member in ipairs(redis.call('ZRANGE', leases_key(pool), 0, -1)) do
    local execution = string.sub(member, 1, #id + 1) == id .. ':' and string.sub(member, #id + 2)
    if execution then
      redis.call('ZREM', leases_key(pool), member)
      forget(pool, id, execution)
    end
  end
end
