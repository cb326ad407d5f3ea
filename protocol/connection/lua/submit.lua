-- Queue a job. Args: those of library/submission.lua, and id, work, fields (further ones of the job's
-- hash: names and values, flat), options and options_version (missing: they do not count): the key of the
-- client's options, and the version of those by which its request was read. ARGV[2] is the hash's `data`,
-- which is not text. Returns what happened and, for a refusal, what refusal() says. All is taken here, and only if the job
-- is queued: a job that is refused, or known, costs its client nothing.
local id = args.id
if redis.call('EXISTS', job_key(id)) == 1 then return {'known'} end
local function options_changed()
  return args.options and (redis.call('HGET', args.options, '') or '') ~= args.options_version
end
local refused = redis.call('EXISTS', deleted_key(id)) == 1 and {'deleted'}
  or options_changed() and {'changed'} or refusal(1)
if refused then
  -- It no longer needs its inputs, which were pinned before they were written.
  for _, input in ipairs(args.inputs) do unpin_input(input, id) end
  return refused
end
take_costs(id)
queue_job(id, args.work, args.fields, ARGV[2])
redis.call('PUBLISH', ours .. ':wake:' .. args.pool, id)
return {'queued'}
