-- ARGV: terms, pool, now as RQ writes it, why as JSON, RQ's record of it, flat, as JSON. Nobody can
-- draw what waits in the pool: it fails. Answers the ids, of a hundred jobs at once at most.
local MOST = 100
local failed, record = {}, cjson.decode(ARGV[5])
for _, lane in ipairs(lanes_of(pool)) do
  while #failed < MOST do
    local id = head_of(lane)
    if not id then break end
    leave(pool, lane, id)
    close(id, lane, 'failed', terms.failure_ttl_s, ARGV[3], ARGV[4], record)
    failed[#failed + 1] = id
  end
end
return failed
