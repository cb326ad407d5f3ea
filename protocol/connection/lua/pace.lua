-- How many jobs of a pool end in a second, while others wait.
--
-- Only time in which the workers were busy and left somebody waiting counts: a quiet hour says
-- nothing about what they can do. `mark` is the moment up to which such time was counted; without
-- one, there is none to count. Both sums fade, so that the rate is that of late.

local HALF_LIFE_S = 120
local PACE_TTL_S = 86400

-- Jobs per second, or 0 if it is not known.
local function rate_of(pool)
  local found = redis.call('HMGET', pace_key(pool), 'ended', 'busy')
  local ended, busy = tonumber(found[1] or 0), tonumber(found[2] or 0)
  if ended < 1 or busy <= 0 then return 0 end
  return ended / busy
end

-- A job was taken; `waiting` are left, and before it the workers ran `running`.
local function pace_taken(pool, now, waiting, running)
  local key = pace_key(pool)
  if waiting == 0 then
    redis.call('HDEL', key, 'mark')
  elseif running == 0 or redis.call('HEXISTS', key, 'mark') == 0 then
    redis.call('HSET', key, 'mark', now)
  end
end

-- A job has come to its end in a worker.
local function pace_ended(pool, now)
  local key = pace_key(pool)
  local found = redis.call('HMGET', key, 'mark', 'ended', 'busy')
  if not found[1] then return end
  local spent = math.max(0, now - tonumber(found[1]))
  local fade = 0.5 ^ (spent / HALF_LIFE_S)
  redis.call('HSET', key, 'mark', now, 'ended', tonumber(found[2] or 0) * fade + 1,
             'busy', tonumber(found[3] or 0) * fade + spent)
  redis.call('EXPIRE', key, PACE_TTL_S)
end
