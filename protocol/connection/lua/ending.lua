-- How jobs end, and that it is told.

-- What became of a job, in the words of protocol.queue.job.
local WORDS = {queued = 'queued', finished = 'finished', failed = 'failed', canceled = 'cancelled'}

-- The last word is kept for `keep` seconds: as long as the job it speaks of. Those who listen also
-- hear the result, and need not ask for it.
local function tell(id, status, keep, result)
  local news = '{"job_id":"' .. id .. '","state":"' .. WORDS[status] .. '"'
  redis.call('SET', progress_key(id), news .. '}', 'EX', keep)
  redis.call('PUBLISH', progress_key(id), news .. (result and ',"result":' .. result or '') .. '}')
end

-- The end of a job, with what RQ's tools want to read of it, all swept away after `keep` seconds.
local function close(id, lane, status, keep, ended_at, error, record, result)
  local job = job_key(id)
  redis.call('HSET', job, 'status', status, 'ended_at', ended_at)
  if error then redis.call('HSET', job, 'error', error) end
  if record then
    redis.call('XADD', results_key(id), 'MAXLEN', 10, '*', unpack(record))
    redis.call('EXPIRE', results_key(id), keep)
  end
  redis.call('ZADD', registry_key(status, lane), server_time() + keep, id)
  redis.call('EXPIRE', job, keep)
  tell(id, status, keep, result)
  return status
end

-- A waiting job that nobody waits for any more. The record that says so came with it.
local function drop_late(pool, lane, id, keep, ended_at)
  leave(pool, lane, id)
  close(id, lane, 'failed', keep, ended_at, field(id, 'late'))
end

-- All waiting jobs whose deadlines are over; answers their ids.
local function drop_all_late(pool, keep, ended_at)
  local dropped, deadlines = {}, deadlines_key(pool)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', deadlines, '-inf', server_time(), 'LIMIT', 0, 100)) do
    redis.call('ZREM', deadlines, id)
    if field(id, 'status') == 'queued' then
      drop_late(pool, lane_of(pool, id), id, keep, ended_at)
      dropped[#dropped + 1] = id
    end
  end
  return dropped
end
