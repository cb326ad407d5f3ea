-- Pins of inputs, and the jobs that need each input. A pin lasts until no job can need the input any more;
-- it ends earlier if all of those jobs are deleted.

local function pin_input(input, id, until_)
  local users, pinned = users_key(input), tonumber(redis.call('ZSCORE', pins_key, input) or 0)
  -- Pinned by an older version, for jobs that it did not note.
  if pinned > server_time() and redis.call('EXISTS', users) == 0 then
    redis.call('ZADD', users, pinned, '')
  end
  redis.call('ZADD', pins_key, 'GT', until_, input)
  redis.call('ZADD', users, 'GT', until_, id)
  redis.call('EXPIREAT', users, math.ceil(math.max(until_, pinned)))
end

local function unpin_input(input, id)
  local users = users_key(input)
  redis.call('ZREM', users, id)
  redis.call('ZREMRANGEBYSCORE', users, '-inf', server_time())
  if redis.call('EXISTS', users) == 0 then redis.call('ZREM', pins_key, input) end
end
