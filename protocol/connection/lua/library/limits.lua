-- The limits of one client: rates, and the number of its jobs that wait or run. A rate has: what,
-- capacity, window_ms, cost. Its bucket refills itself once in the window.

local JOBS_TTL_S = 86400
local ENDED = {finished = true, failed = true, canceled = true, stopped = true}

-- With a hash tag, so that all of a client's limits are in one slot.
local function limit_key(client, what)
  return ours .. ':limits:{' .. client .. '}:' .. string.gsub(what, ' ', '-')
end

local function now_ms() return math.floor(server_time() * 1000) end

local function left_in(client, rate)
  local kept = redis.call('HMGET', limit_key(client, rate.what), 'left', 'at')
  if not kept[1] then return rate.capacity end
  local since = math.max(0, now_ms() - tonumber(kept[2]))
  return math.min(rate.capacity, tonumber(kept[1]) + since * rate.capacity / rate.window_ms)
end

-- The milliseconds until the cost can be taken; 0: it can be now.
local function wait_ms(client, rate)
  local missing = rate.cost - left_in(client, rate)
  return missing > 0 and math.ceil(missing * rate.window_ms / rate.capacity) or 0
end

-- Take the cost, or all that is left if that is less.
local function take(client, rate)
  local left = math.max(0, left_in(client, rate) - rate.cost)
  local key = limit_key(client, rate.what)
  redis.call('HSET', key, 'left', string.format('%.3f', left), 'at', now_ms())
  redis.call('PEXPIRE', key, rate.window_ms)
end

-- Ended jobs are removed only when there seems to be no room: so the end of a job need not be reported,
-- and no crash leaves a wrong count.
local function has_room(client, max_jobs)
  local key = limit_key(client, 'jobs')
  if redis.call('ZCARD', key) < max_jobs then return true end
  for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    expire_if_late(id)
    local status = field(id, 'status')
    if not status or ENDED[status] then redis.call('ZREM', key, id) end
  end
  return redis.call('ZCARD', key) < max_jobs
end

local function count_job(client, id)
  local key = limit_key(client, 'jobs')
  redis.call('ZADD', key, now_ms() / 1000, id)
  redis.call('EXPIRE', key, JOBS_TTL_S)
end
