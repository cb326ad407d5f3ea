-- The view of a job: status, client, error, latest progress; while it waits, the number ahead of it and
-- the rate; once it has finished, its latest result; until it ends, the seconds until its deadline; the
-- warnings of its request. False if there is no such job, or it is to be
-- deleted. A job whose deadline has passed is ended first.
local function view_of(id)
  local left = expire_if_late(id)
  local status = field(id, 'status')
  if not status or field(id, 'deleted') then return false end
  local ahead, rate, result
  if status == 'queued' then
    local pool = pool_of(id)
    ahead, rate = ahead_of(pool, lane_of(pool, id), id), tostring(rate_of(pool))
  elseif status == 'finished' then
    result = redis.pcall('XREVRANGE', results_key(id), '+', '-', 'COUNT', 1)
    if result.err then result = nil end
  end
  return {status, field(id, 'client') or '', field(id, 'error') or false,
          redis.call('GET', progress_key(id)), ahead or false, rate or false, result or false,
          left and tostring(math.min(left, MOST_TTL_S)) or false, field(id, 'warnings') or false}
end
