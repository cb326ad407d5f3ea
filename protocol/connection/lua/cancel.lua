-- ARGV: job id, who asks ('' if anybody), seconds to keep it, now as RQ writes it. Answers the job as
-- it is seen then. One atomic step, so that a job is either never begun or carries the mark.
local id, client, keep, now_text = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local status = field(id, 'status')
if client == '' or field(id, 'client') == client then
  if status == 'queued' then
    local pool = pool_of(id)
    local lane = lane_of(pool, id)
    leave(pool, lane, id)
    close(id, lane, 'canceled', keep, now_text)
  elseif status == 'started' then
    redis.call('HSET', job_key(id), 'cancel', 1)
  end
end
return seen(id)
