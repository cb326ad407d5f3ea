-- The ends of jobs, and their publication.

-- RQ's statuses -> the states of protocol.queue.job.
local STATES = {queued = 'queued', finished = 'finished', failed = 'failed', canceled = 'cancelled'}

-- The last progress is kept for `keep` seconds, as long as the job. Subscribers also receive the
-- result, and need not read it from the job.
local function publish_state(id, status, keep, result)
  local news = '{"job_id":"' .. id .. '","state":"' .. STATES[status] .. '"'
  redis.call('SET', progress_key(id), news .. '}', 'EX', keep)
  redis.call('PUBLISH', progress_key(id), news .. (result and ',"result":' .. result or '') .. '}')
end

-- End a job, for `keep` seconds with the fields that RQ's tools read. `outcome` may have: error,
-- record (RQ's entry of the result), result.
local function close(id, lane, status, keep, outcome)
  local job = job_key(id)
  redis.call('HSET', job, 'status', status, 'ended_at', rq_time())
  if outcome.error then redis.call('HSET', job, 'error', outcome.error) end
  if outcome.record then
    redis.call('XADD', results_key(id), 'MAXLEN', 10, '*', unpack(outcome.record))
    redis.call('EXPIRE', results_key(id), keep)
  end
  redis.call('ZADD', registry_key(status, lane), server_time() + keep, id)
  redis.call('EXPIRE', job, keep)
  keep_indexed(id, keep)
  if redis.call('EXISTS', webhook_key(id)) == 1 then
    redis.call('ZADD', webhooks_key, server_time(), id)
  end
  publish_state(id, status, keep, outcome.result)
  if redis.call('HEXISTS', job, 'deleted') == 1 then remove(id, WRITTEN_WITHIN_S) end
  return status
end

local MOST_TTL_S = 1000000000

-- The seconds for which a failed job is kept: those that RQ's tools would keep it.
local function failure_ttl(id)
  local written = string.match(field(id, 'failure_ttl') or '', '^%d+$')
  return math.min(tonumber(written) or 86400, MOST_TTL_S)
end

-- Fail a job whose deadline has passed, with the error that was submitted for that case.
local function expire(pool, lane, id)
  dequeue(pool, lane, id)
  close(id, lane, 'failed', failure_ttl(id), {error = field(id, 'late')})
end

-- Fail all waiting jobs of a pool whose deadlines have passed; add their ids to `expired`.
local function expire_all(pool, expired)
  local deadlines = deadlines_key(pool)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', deadlines, '-inf', server_time(), 'LIMIT', 0, 100)) do
    redis.call('ZREM', deadlines, id)
    if field(id, 'status') == 'queued' then
      expire(pool, lane_of(pool, id), id)
      expired[#expired + 1] = id
    end
  end
  return expired
end

-- Fail a job, also a running one, whose deadline has passed. Called whenever a job is looked at: no
-- worker may be alive to do it, or the one that holds the job may be frozen. Returns the seconds that are
-- left to a job that has not ended; nil if it has, or has no deadline.
local function expire_if_late(id)
  local status = field(id, 'status')
  local deadline = tonumber(field(id, 'deadline_at'))
  if not deadline or (status ~= 'queued' and status ~= 'started') then return nil end
  local left = deadline - server_time()
  if left > 0 then return left end
  local pool = pool_of(id)
  revoke_leases(pool, id)
  expire(pool, lane_of(pool, id), id)
end
