-- Fail the waiting jobs whose deadlines have passed. Args: pools.
-- Returns their ids.
local expired = {}
for _, pool in ipairs(args.pools) do expire_all(pool, expired) end
return expired
