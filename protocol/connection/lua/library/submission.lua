-- Queueing jobs. `args` has: pool, lane, client, max_waiting, max_waiting_of_client, deadline_s (if the
-- client set one), max_jobs (of the client that wait or run, if that is limited), rates (of the client,
-- with the cost of all jobs), webhook (missing: none), webhook_watches (it is called before the end, too),
-- webhook_s (it is kept after the deadline), inputs (keys of the store, of all jobs), pin_s, life_s, options
-- and options_version (missing: they do not count): the key of the client's options, and the version of those
-- by which its request was read.

local function options_changed()
  return args.options and (redis.call('HGET', args.options, '') or '') ~= args.options_version
end

-- Give up the inputs of a job that is refused: they were pinned before they were written.
local function unpin_inputs(inputs, id)
  for _, input in ipairs(inputs) do unpin_input(input, id) end
end

-- Why `count` more jobs are refused, with the number of waiting jobs (or the wait), and the rate; nil if
-- they are not.
local function refusal(count)
  if options_changed() then return {'changed'} end
  local pool, lane, client = args.pool, args.lane, args.client
  expire_all(pool, {})
  expire_index()
  local waiting, rate = waiting_in_pool(pool), rate_of(pool)
  if waiting + count > args.max_waiting then return {'full', waiting, tostring(rate)} end

  if client ~= '' then
    local key = client_key(pool, client)
    local mine = redis.call('SCARD', key)
    if mine + count > args.max_waiting_of_client then
      -- Before a refusal, forget jobs that RQ's tools have removed from the queue.
      for _, other in ipairs(redis.call('SMEMBERS', key)) do
        if field(other, 'status') ~= 'queued' then redis.call('SREM', key, other) end
      end
      mine = redis.call('SCARD', key)
      if mine + count > args.max_waiting_of_client then return {'client', mine, tostring(rate)} end
    end
  end

  if args.deadline_s then
    local ahead = redis.call('ZCOUNT', order_key(lane), '-inf', tag_for(lane, client)) + count - 1
    for _, other in ipairs(lanes_of(pool)) do
      if other == lane then break end
      ahead = ahead + waiting_in(other)
    end
    if rate > 0 and ahead / rate > args.deadline_s then
      return {'late', tostring(ahead / rate), tostring(rate)}
    end
  end

  if args.max_jobs and not has_room(client, args.max_jobs - count + 1) then return {'jobs'} end
  for i, limit in ipairs(args.rates) do
    local wait = wait_ms(client, limit)
    if wait > 0 then return {'rate', i - 1, wait} end
  end

  -- The inputs were pinned before they were written. Redis may have lost those pins since.
  for _, input in ipairs(args.inputs) do
    if redis.call('EXISTS', deletion_key(input)) == 1 then return {'deleting'} end
  end
end

-- Take what all jobs cost the client.
local function take_costs()
  for _, limit in ipairs(args.rates) do take(args.client, limit) end
end

-- Queue one job, and pin its inputs again. `fields`: further ones of its hash, names and values, flat.
-- `data` is not text.
local function queue_job(id, work, inputs, fields, data)
  local now = rq_time()
  for _, input in ipairs(inputs) do pin_input(input, id, server_time() + args.pin_s) end
  if #inputs > 0 then redis.call('HSET', job_key(id), 'inputs', cjson.encode(inputs)) end
  if args.max_jobs then count_job(args.client, id) end
  redis.call('HSET', job_key(id), 'status', 'queued', 'origin', args.lane, 'client', args.client,
             'work', work, 'deadline_at', server_time() + args.life_s, 'enqueued_at', now,
             'created_at', now, 'data', data, unpack(fields))
  redis.call('SADD', rq .. ':queues', list_key(args.lane))
  enqueue(args.pool, args.lane, id, args.client, work)
  index_job(id, args.client)
  if args.webhook then
    -- Due when the job ends, also when it begins if it is watched, and at the latest at its deadline.
    redis.call('HSET', webhook_key(id), 'target', args.webhook)
    if args.webhook_watches then redis.call('HSET', webhook_key(id), 'watches', 1) end
    redis.call('EXPIRE', webhook_key(id), math.ceil(args.life_s) + args.webhook_s)
    redis.call('ZADD', webhooks_key, server_time() + args.life_s, id)
  end
end
