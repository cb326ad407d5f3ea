-- Leases: the workers that hold jobs. args.terms are those of worker.consumer.leases.
local terms = args.terms

-- To the front of its lane, because it has waited once; but cancel it if a client asked for that.
local function requeue(pool, id)
  local lane = lane_of(pool, id)
  if redis.call('HEXISTS', job_key(id), 'cancel') == 1 then
    return close(id, lane, 'canceled', terms.failure_ttl_s, {})
  end
  redis.call('HSET', job_key(id), 'status', 'queued')
  enqueue_first(pool, lane, id)
  publish_state(id, 'queued', terms.failure_ttl_s)
  return 'queued'
end

-- Requeue a job that may have stopped a worker, or fail it after too many of them.
local function requeue_stalled(pool, id)
  local stalled = redis.pcall('HINCRBY', job_key(id), 'crashes', 1)
  if type(stalled) == 'number' and stalled < terms.max_stalled then
    return requeue(pool, id)
  end
  local outcome = {error = terms.stalled_error, record = terms.stalled_record}
  return close(id, lane_of(pool, id), 'failed', terms.failure_ttl_s, outcome)
end
