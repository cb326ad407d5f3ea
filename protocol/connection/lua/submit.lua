-- Queue a job. Args: those of library/submission.lua, and id, work, fields (further ones of the job's
-- hash: names and values, flat). ARGV[2] is the hash's `data`, which is not text. Returns what happened and,
-- for a refusal, what refusal() says. All is taken here, and only if the job is queued: a job that is refused,
-- or known, costs its client nothing.
local id = args.id
if redis.call('EXISTS', job_key(id)) == 1 then return {'known'} end
local refused = redis.call('EXISTS', deleted_key(id)) == 1 and {'deleted'} or refusal(1)
if refused then
  unpin_inputs(args.inputs, id)
  return refused
end
take_costs()
queue_job(id, args.work, args.inputs, args.fields, ARGV[2])
redis.call('PUBLISH', ours .. ':wake:' .. args.pool, id)
return {'queued'}
