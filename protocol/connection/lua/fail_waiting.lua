-- Fail the waiting jobs of a pool whose model cannot be loaded, at most a hundred at once. Args: terms,
-- pool, error, record. Returns their ids.
local MOST = 100
local failed = {}
for _, lane in ipairs(lanes_of(args.pool)) do
  while #failed < MOST do
    local id = head_of(lane)
    if not id then break end
    dequeue(args.pool, lane, id)
    close(id, lane, 'failed', terms.failure_ttl_s, args)
    failed[#failed + 1] = id
  end
end
return failed
