-- The deletion of a job on request: its record with the prompt, its result and previews, its entry in the
-- index, its Idempotency-Key, its webhook and its pins. Its objects are noted for deletion from the store
-- (protocol.storage.deleted_jobs).

local DELETED_TTL_S = 86400  -- late retries of the submission are refused for that long
local WRITTEN_WITHIN_S = 60  -- by a worker that has just ended the job

local function forget_idempotency(id)
  local digest = field(id, 'idempotency')
  local key = digest and idempotency_key(digest)
  local kept = key and redis.call('GET', key)
  if kept and string.sub(kept, 1, #id) == id then redis.call('DEL', key) end
end

-- Note the objects of a job, to be deleted in `seconds`.
local function delete_objects(id, seconds)
  local at = server_time() + seconds
  redis.call('ZADD', deletions_key, at, id)
  for _, input in ipairs(cjson.decode(field(id, 'inputs') or '[]')) do
    unpin_input(input, id)
    redis.call('ZADD', deletions_key, at, input)
  end
end

-- Remove a job that no worker runs. `seconds`: within which its objects may still be written.
local function remove(id, seconds)
  local pool, client = pool_of(id), field(id, 'client') or ''
  local lane = lane_of(pool, id)
  dequeue(pool, lane, id)  -- what RQ's tools may have left
  delete_objects(id, seconds)
  forget_idempotency(id)
  unindex(id, client)
  for _, kind in ipairs({'finished', 'failed', 'canceled'}) do
    redis.call('ZREM', registry_key(kind, lane), id)
  end
  redis.call('ZREM', webhooks_key, id)
  redis.call('DEL', job_key(id), results_key(id), progress_key(id), preview_key(id), previews_key(id),
             executions_key(id), webhook_key(id))
  redis.call('SET', deleted_key(id), client, 'EX', DELETED_TTL_S)
end
