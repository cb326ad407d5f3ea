-- List jobs, the newest first. Args: client (missing: any), limit; at, id (of the last job of the page
-- before); after, before (bounds of the time of submission, which are not included); statuses (RQ's, as
-- an object), pool, task, dialect. Times are microseconds, as text.
-- Returns jobs as {id, time, pool, task, view} each, and then the time and id from which to go on; false if
-- there are no more. So many jobs are looked at once, and a page may be shorter than its limit.
local SEARCHED, BATCH = 1000, 100

local function is_wanted(id)
  expire_if_late(id)
  local status = field(id, 'status')
  if not status or (args.statuses and not args.statuses[status]) then return false end
  if args.pool and pool_of(id) ~= args.pool then return false end
  if args.dialect and field(id, 'dialect') ~= args.dialect then return false end
  return not args.task or field(id, 'task') == args.task
end

local key = args.client and jobs_key(args.client) or all_jobs_key
local upper = args.at or (args.before and '(' .. args.before) or '+inf'
local lower = args.after and '(' .. args.after or '-inf'
local found, last = {}, nil

for offset = 0, SEARCHED - BATCH, BATCH do
  local batch = redis.call('ZREVRANGEBYSCORE', key, upper, lower, 'WITHSCORES', 'LIMIT', offset, BATCH)
  for i = 1, #batch, 2 do
    local id, at = batch[i], batch[i + 1]
    local is_further = not (at == args.at and id >= args.id)
    if is_further and #found == args.limit then return {found, last} end
    if is_further then last = {at, id} end
    local view = is_further and is_wanted(id) and view_of(id)
    if view then found[#found + 1] = {id, at, pool_of(id), field(id, 'task') or false, view} end
  end
  if #batch < 2 * BATCH then return {found, false} end
end
return {found, last or false}
