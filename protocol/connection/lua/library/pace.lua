-- The rate at which jobs of a pool end, while others wait.
--
-- Only time in which the workers were busy while a job waited counts: a quiet hour is no measure of
-- what they can do. `mark` is the moment up to which such time was counted; it is missing while no job
-- waits. Both sums decay, so that the rate is the recent one.

local HALF_LIFE_S = 120
local PACE_TTL_S = 86400

-- Jobs per second, or 0 if it is not known.
local function rate_of(pool)
  local found = redis.call('HMGET', pace_key(pool), 'ended', 'busy')
  local ended, busy = tonumber(found[1] or 0), tonumber(found[2] or 0)
  if ended < 1 or busy <= 0 then return 0 end
  return ended / busy
end

-- Note that a job was claimed; `waiting` are left, and before it `running` were running.
local function pace_claimed(pool, now, waiting, running)
  local key = pace_key(pool)
  if waiting == 0 then
    redis.call('HDEL', key, 'mark')
  elseif running == 0 or redis.call('HEXISTS', key, 'mark') == 0 then
    redis.call('HSET', key, 'mark', now)
  end
end

-- Note that a job has ended in a worker.
local function pace_ended(pool, now)
  local key = pace_key(pool)
  local found = redis.call('HMGET', key, 'mark', 'ended', 'busy')
  if not found[1] then return end
  local spent = math.max(0, now - tonumber(found[1]))
  local decay = 0.5 ^ (spent / HALF_LIFE_S)
  redis.call('HSET', key, 'mark', now, 'ended', tonumber(found[2] or 0) * decay + 1,
             'busy', tonumber(found[3] or 0) * decay + spent)
  redis.call('EXPIRE', key, PACE_TTL_S)
end
