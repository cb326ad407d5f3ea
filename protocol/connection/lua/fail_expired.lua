-- Fail the waiting jobs whose deadlines have passed. Args: terms, now (as RQ writes it), pools.
-- Returns their ids.
local expired = {}
for _, pool in ipairs(args.pools) do expire_all(pool, terms.failure_ttl_s, args.now, expired) end
return expired
