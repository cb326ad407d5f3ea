-- Count the waiting jobs of pools. Args: ttl_s (of the progress), pools, percent (pool -> how much of
-- its model is loaded, for models that are being loaded). The first waiting jobs of those get it as
-- their progress. Returns the counts, in the order of the pools.
local REPORTED = 100  -- jobs of each lane

local function report_loading(id, percent)
  local news = '{"job_id":"' .. id .. '","state":"queued","phase":"load","step":' .. percent
               .. ',"steps":100}'
  redis.call('SET', progress_key(id), news, 'EX', args.ttl_s)
  redis.call('PUBLISH', progress_key(id), news)
end

local counts = {}
for _, pool in ipairs(args.pools) do
  local percent = args.percent[pool]
  for _, lane in ipairs(percent and lanes_of(pool) or {}) do
    for _, id in ipairs(redis.call('LRANGE', list_key(lane), 0, REPORTED - 1)) do
      if is_id(id) and field(id, 'status') == 'queued' then report_loading(id, percent) end
    end
  end
  counts[#counts + 1] = waiting_in_pool(pool)
end
return counts
