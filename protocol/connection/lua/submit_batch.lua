-- Queue all jobs of a batch, or none. Args: those of library/submission.lua, and batch, works and inputs_of
-- (of each job), fields (further ones of every job's hash: names and values, flat), keep (seconds). ARGV[2]
-- and the following are the `data` of the jobs. Returns what submit.lua returns.
local count = #args.works
local batch = batch_key(args.batch)
if redis.call('EXISTS', batch) == 1 then return {'known'} end
local refused = refusal(count)
if refused then
  for i, inputs in ipairs(args.inputs_of) do unpin_inputs(inputs, batch_job(args.batch, i - 1)) end
  return refused
end
take_costs()
redis.call('HSET', batch, 'client', args.client, 'count', count)
redis.call('EXPIRE', batch, args.keep)
for i, work in ipairs(args.works) do
  queue_job(batch_job(args.batch, i - 1), work, args.inputs_of[i], args.fields, ARGV[i + 1])
end
redis.call('PUBLISH', ours .. ':wake:' .. args.pool, args.batch)
return {'queued'}
