-- ARGV: terms, '', seconds to keep such news, then pools, each with how far its model is loaded in
-- parts of 100, or ''. Answers how many wait in each; the first of those that wait for a model which is
-- being loaded are told how far that is.
local TOLD = 100  -- of each lane

local function tell_loading(id, share)
  local news = '{"job_id":"' .. id .. '","state":"queued","phase":"load","step":' .. share
               .. ',"steps":100}'
  redis.call('SET', progress_key(id), news, 'EX', ARGV[3])
  redis.call('PUBLISH', progress_key(id), news)
end

local waiting = {}
for i = 4, #ARGV, 2 do
  pool = ARGV[i]
  if ARGV[i + 1] ~= '' then
    for _, lane in ipairs(lanes_of(pool)) do
      for _, id in ipairs(redis.call('LRANGE', list_key(lane), 0, TOLD - 1)) do
        if is_id(id) and field(id, 'status') == 'queued' then tell_loading(id, ARGV[i + 1]) end
      end
    end
  end
  waiting[#waiting + 1] = waiting_in_all(pool)
end
return waiting
