-- Waiting jobs. A lane is an RQ list, which holds the waiting jobs, and a sorted set, the order, which
-- determines the next of them.
--
-- The order is start-time fair queuing: a job's tag is the end of its client's last one, or the
-- lane's current tag, whichever is later; and the job ends later by its work. The smallest tag is
-- next, so between any two of a client's thousand jobs comes one of every other client. Equal tags go
-- by arrival, with which the member's name begins.

local SEARCHED = 10000  -- entries of a list that are searched for a job

local function waiting_in(lane) return redis.call('LLEN', list_key(lane)) end

local function waiting_in_pool(pool)
  local waiting = 0
  for _, lane in ipairs(lanes_of(pool)) do waiting = waiting + waiting_in(lane) end
  return waiting
end

-- An empty lane owes no client anything.
local function reset_if_empty(lane)
  if waiting_in(lane) == 0 then
    redis.call('DEL', order_key(lane), finish_key(lane), lane_key(lane))
  end
end

-- The tag of a new job of `client`.
local function tag_for(lane, client)
  local current = tonumber(redis.call('HGET', lane_key(lane), 'stands') or 0)
  return math.max(current, tonumber(redis.call('ZSCORE', finish_key(lane), client) or 0))
end

local function insert(lane, id, tag)
  local arrival = redis.call('HINCRBY', lane_key(lane), 'arrivals', 1)
  local place = string.format('%012d', arrival) .. id
  redis.call('ZADD', order_key(lane), tag, place)
  redis.call('HSET', job_key(id), 'place', place)
end

local function insert_fairly(lane, id, client, work)
  local tag = tag_for(lane, client)
  redis.call('ZADD', finish_key(lane), tag + work, client)
  insert(lane, id, tag)
end

-- Add a waiting job to its client's share, and to the deadlines.
local function count_waiting(pool, id)
  local found = redis.call('HMGET', job_key(id), 'client', 'deadline_at')
  if found[1] and found[1] ~= '' then redis.call('SADD', client_key(pool, found[1]), id) end
  if found[2] then redis.call('ZADD', deadlines_key(pool), found[2], id) end
end

local function enqueue(pool, lane, id, client, work)
  reset_if_empty(lane)
  insert_fairly(lane, id, client, work)
  redis.call('RPUSH', list_key(lane), id)
  count_waiting(pool, id)
end

-- Before all others: it has waited once.
local function enqueue_first(pool, lane, id)
  reset_if_empty(lane)
  local first = redis.call('ZRANGE', order_key(lane), 0, 0, 'WITHSCORES')
  insert(lane, id, math.min(0, tonumber(first[2] or 0)) - 1)
  redis.call('LPUSH', list_key(lane), id)
  count_waiting(pool, id)
end

local function dequeue(pool, lane, id)
  local found = redis.call('HMGET', job_key(id), 'place', 'client')
  if found[1] then redis.call('ZREM', order_key(lane), found[1]) end
  if found[2] then redis.call('SREM', client_key(pool, found[2]), id) end
  redis.call('ZREM', deadlines_key(pool), id)
  redis.call('HDEL', job_key(id), 'place')
  redis.call('LREM', list_key(lane), 0, id)
  reset_if_empty(lane)
end

-- Insert the jobs that RQ's tools put into the list; remove duplicates and what is no waiting job.
local function adopt_foreign(lane)
  if waiting_in(lane) <= redis.call('ZCARD', order_key(lane)) then return end
  local found = {}
  for _, id in ipairs(redis.call('LRANGE', list_key(lane), 0, -1)) do
    if not is_id(id) or field(id, 'status') ~= 'queued' then
      redis.call('LREM', list_key(lane), 0, id)
    elseif found[id] then
      redis.call('LREM', list_key(lane), -1, id)
    else
      found[id] = true
      local place = field(id, 'place')
      if not place or not redis.call('ZSCORE', order_key(lane), place) then
        insert_fairly(lane, id, field(id, 'client') or '', tonumber(field(id, 'work')) or 1)
      end
    end
  end
  reset_if_empty(lane)
end

-- The id and place of a lane's next job, or nil. A job that has a place, but is no longer in the list
-- or no longer waiting, was removed by another program: its place is removed too.
local function head_of(lane)
  adopt_foreign(lane)
  while waiting_in(lane) > 0 do
    local place = redis.call('ZRANGE', order_key(lane), 0, 0)[1]
    if not place then
      adopt_foreign(lane)
      if waiting_in(lane) == 0 then return nil end
    else
      local id = string.sub(place, 13)
      if field(id, 'status') == 'queued' and redis.call('LPOS', list_key(lane), id) then
        return id, place
      end
      redis.call('ZREM', order_key(lane), place)
      redis.call('LREM', list_key(lane), 0, id)
      adopt_foreign(lane)
    end
  end
  reset_if_empty(lane)
  return nil
end

-- The number of jobs ahead of a waiting one; false if it is further back than is searched.
local function ahead_of(pool, lane, id)
  local ahead = 0
  for _, other in ipairs(lanes_of(pool)) do
    if other == lane then break end
    ahead = ahead + waiting_in(other)
  end
  local place = field(id, 'place')
  -- The order is used only while it agrees with the list, which is authoritative.
  if place and waiting_in(lane) == redis.call('ZCARD', order_key(lane)) then
    local rank = redis.call('ZRANK', order_key(lane), place)
    if rank then return ahead + rank end
  end
  local rank = redis.call('LPOS', list_key(lane), id, 'MAXLEN', SEARCHED)
  return rank and ahead + rank
end
