-- The index of jobs: all of them, and those of each client, by the time of their submission. The entry of
-- a job is kept as long as its record.

local RECHECK_S = 60

local function set_index_expiry(id, client, seconds)
  redis.call('ZADD', index_expiry_key, server_time() + seconds, id .. ':' .. client)
end

local function index_job(id, client)
  local time = redis.call('TIME')
  local at = string.format('%s%06d', time[1], time[2])  -- microseconds
  redis.call('ZADD', all_jobs_key, at, id)
  redis.call('ZADD', jobs_key(client), at, id)
  set_index_expiry(id, client, RECHECK_S)
end

-- Keep the entry of an ended job for `keep` seconds. A job of an older version has none.
local function keep_indexed(id, keep)
  if redis.call('ZSCORE', all_jobs_key, id) then
    set_index_expiry(id, field(id, 'client') or '', keep)
  end
end

local function unindex(id, client)
  redis.call('ZREM', all_jobs_key, id)
  redis.call('ZREM', jobs_key(client), id)
  redis.call('ZREM', index_expiry_key, id .. ':' .. client)
end

-- Remove the entries of jobs whose records have expired, a hundred at once.
local function expire_index()
  local now = server_time()
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', index_expiry_key, '-inf', now, 'LIMIT', 0, 100)) do
    local id, client = string.match(entry, '^([^:]*):(.*)$')
    local left = redis.call('TTL', job_key(id))
    if left == -2 then
      unindex(id, client)
    else
      set_index_expiry(id, client, math.max(left + 1, RECHECK_S))
    end
  end
end
