-- ARGV: terms, pool, how far its model is loaded in parts of 100 or '', seconds to keep such news.
-- Answers how many wait in the pool; the first of them are told how far the loading is.
local TOLD = 100  -- of each lane
if ARGV[3] ~= '' then
  for _, lane in ipairs(lanes_of(pool)) do
    for _, id in ipairs(redis.call('LRANGE', list_key(lane), 0, TOLD - 1)) do
      if is_id(id) and field(id, 'status') == 'queued' then
        local news = '{"job_id":"' .. id .. '","state":"queued","phase":"load","step":' .. ARGV[3]
                     .. ',"steps":100}'
        redis.call('SET', progress_key(id), news, 'EX', ARGV[4])
        redis.call('PUBLISH', progress_key(id), news)
      end
    end
  end
end
return waiting_in_all(pool)
