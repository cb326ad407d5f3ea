-- Check a client's rate, and take its cost if args.take. Args: client, rate (what, capacity, window_ms, cost), take.
-- Returns the milliseconds until the cost could be taken, before it was.
local wait = wait_ms(args.client, args.rate)
if args.take then take(args.client, args.rate) end
return wait
