-- Who waits where. A lane is an RQ list, which says who waits, and a sorted set beside it, the
-- order, which says who is next.
--
-- The order is start-time fair queuing: a job's tag is where its client's last one ends, or where
-- the lane stands now, whichever is later; and it ends as much later as it is work. The smallest
-- tag is next, so a client with a thousand jobs waits between any two of them for everybody else's.
-- Equal tags go by arrival, which begins the member's name.

local SEARCHED = 10000  -- entries of a list that are searched for a job

local function waiting_in(lane) return redis.call('LLEN', list_key(lane)) end

local function waiting_in_all(pool)
  local waiting = 0
  for _, lane in ipairs(lanes_of(pool)) do waiting = waiting + waiting_in(lane) end
  return waiting
end

-- Nobody waits here: so nobody is owed anything, either.
local function forget_if_empty(lane)
  if waiting_in(lane) == 0 then
    redis.call('DEL', order_key(lane), finish_key(lane), lane_key(lane))
  end
end

-- Where a job of `client` would be put in the order.
local function tag_for(lane, client)
  local stands = tonumber(redis.call('HGET', lane_key(lane), 'stands') or 0)
  return math.max(stands, tonumber(redis.call('ZSCORE', finish_key(lane), client) or 0))
end

local function put_in_order(lane, id, tag)
  local arrival = redis.call('HINCRBY', lane_key(lane), 'arrivals', 1)
  local place = string.format('%012d', arrival) .. id
  redis.call('ZADD', order_key(lane), tag, place)
  redis.call('HSET', job_key(id), 'place', place)
end

local function put_behind(lane, id, client, work)
  local tag = tag_for(lane, client)
  redis.call('ZADD', finish_key(lane), tag + work, client)
  put_in_order(lane, id, tag)
end

-- Note that a job waits, for its client's share and its deadline.
local function note_waiting(pool, id)
  local found = redis.call('HMGET', job_key(id), 'client', 'deadline_at')
  if found[1] and found[1] ~= '' then redis.call('SADD', client_key(pool, found[1]), id) end
  if found[2] then redis.call('ZADD', deadlines_key(pool), found[2], id) end
end

local function join(pool, lane, id, client, work)
  forget_if_empty(lane)
  put_behind(lane, id, client, work)
  redis.call('RPUSH', list_key(lane), id)
  note_waiting(pool, id)
end

-- Before all others: it has waited once.
local function join_in_front(pool, lane, id)
  forget_if_empty(lane)
  local first = redis.call('ZRANGE', order_key(lane), 0, 0, 'WITHSCORES')
  put_in_order(lane, id, math.min(0, tonumber(first[2] or 0)) - 1)
  redis.call('LPUSH', list_key(lane), id)
  note_waiting(pool, id)
end

-- Take a job out, whyever; whether it was in the list.
local function leave(pool, lane, id)
  local found = redis.call('HMGET', job_key(id), 'place', 'client')
  if found[1] then redis.call('ZREM', order_key(lane), found[1]) end
  if found[2] then redis.call('SREM', client_key(pool, found[2]), id) end
  redis.call('ZREM', deadlines_key(pool), id)
  redis.call('HDEL', job_key(id), 'place')
  local was_there = redis.call('LREM', list_key(lane), 0, id) > 0
  forget_if_empty(lane)
  return was_there
end

-- Give a place to what RQ's tools put into the list, and take rubbish and doubles out.
local function adopt_strays(lane)
  if waiting_in(lane) <= redis.call('ZCARD', order_key(lane)) then return end
  local seen = {}
  for _, id in ipairs(redis.call('LRANGE', list_key(lane), 0, -1)) do
    if not is_id(id) or field(id, 'status') ~= 'queued' then
      redis.call('LREM', list_key(lane), 0, id)
    elseif seen[id] then
      redis.call('LREM', list_key(lane), -1, id)
    else
      seen[id] = true
      local place = field(id, 'place')
      if not place or not redis.call('ZSCORE', order_key(lane), place) then
        put_behind(lane, id, field(id, 'client') or '', tonumber(field(id, 'work')) or 1)
      end
    end
  end
  forget_if_empty(lane)
end

-- The id at the head of a lane, or nothing. What has a place but is no more in the list, or not
-- waiting any more, was taken out by somebody else's hand: it goes.
local function head_of(lane)
  adopt_strays(lane)
  while waiting_in(lane) > 0 do
    local place = redis.call('ZRANGE', order_key(lane), 0, 0)[1]
    if not place then
      adopt_strays(lane)
      if waiting_in(lane) == 0 then return nil end
    else
      local id = string.sub(place, 13)
      if field(id, 'status') == 'queued' and redis.call('LPOS', list_key(lane), id) then
        return id, place
      end
      redis.call('ZREM', order_key(lane), place)
      redis.call('LREM', list_key(lane), 0, id)
      adopt_strays(lane)
    end
  end
  forget_if_empty(lane)
  return nil
end

-- How many are ahead of a waiting job; nothing if it is further back than is searched.
local function ahead_of(pool, lane, id)
  local ahead = 0
  for _, other in ipairs(lanes_of(pool)) do
    if other == lane then break end
    ahead = ahead + waiting_in(other)
  end
  local place = field(id, 'place')
  -- The order is told only while it agrees with the list, which is the truth.
  if place and waiting_in(lane) == redis.call('ZCARD', order_key(lane)) then
    local rank = redis.call('ZRANK', order_key(lane), place)
    if rank then return ahead + rank end
  end
  local rank = redis.call('LPOS', list_key(lane), id, 'MAXLEN', SEARCHED)
  return rank and ahead + rank
end
