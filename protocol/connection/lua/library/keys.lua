-- The keys, and the fields of jobs. `rq` and `ours`, set before this, are the prefixes of RQ's keys and
-- of ours. A pool is all the jobs of a model; its lanes are RQ queues, one for each priority.

-- A script's arguments: an object with the fields that its first lines name.
local args = cjson.decode(ARGV[1])

local function job_key(id) return rq .. ':job:' .. id end
local function results_key(id) return rq .. ':results:' .. id end
local function list_key(lane) return rq .. ':queue:' .. lane end
local function registry_key(kind, lane) return rq .. ':' .. kind .. ':' .. lane end

local function order_key(lane) return ours .. ':order:' .. lane end
local function finish_key(lane) return ours .. ':finish:' .. lane end
local function lane_key(lane) return ours .. ':lane:' .. lane end
local function client_key(pool, client) return ours .. ':client:' .. pool .. ':' .. client end
local function deadlines_key(pool) return ours .. ':deadlines:' .. pool end
local function leases_key(pool) return ours .. ':leases:' .. pool end
local function pace_key(pool) return ours .. ':pace:' .. pool end
local function progress_key(id) return ours .. ':progress:' .. id end

local function preview_key(id) return ours .. ':preview:' .. id end
local function previews_key(id) return ours .. ':previews:' .. id end  -- of each image
local function idempotency_key(digest) return ours .. ':idempotency:' .. digest end
-- A webhook has: target, attempts, body, told, watches, leased_until (protocol.queue.webhooks).
local webhooks_key = ours .. ':webhooks'
local function webhook_key(id) return ours .. ':webhook:' .. id end

-- The jobs of a batch have its id with their index in place of the last four digits.
local function batch_key(id) return ours .. ':batch:' .. id end
local function batch_job(batch, index)
  return string.sub(batch, 1, -5) .. string.format('%04x', index)
end

local pins_key = ours .. ':held'
local function users_key(input) return ours .. ':users:' .. input end
local function deletion_key(input) return ours .. ':condemned:' .. input end

local all_jobs_key = ours .. ':index:all'
local index_expiry_key = ours .. ':index:expiry'
local function jobs_key(client) return ours .. ':index:client:' .. client end

local deletions_key = ours .. ':deletions'
local function deleted_key(id) return ours .. ':deleted:' .. id end

-- The lanes of a pool, the most urgent first.
local function lanes_of(pool) return {pool .. ':high', pool, pool .. ':low'} end

-- A key of that name that is no hash was written by another program, and counts as absent.
local function field(id, name)
  local found = redis.pcall('HGET', job_key(id), name)
  return type(found) == 'string' and found or nil
end

-- The pool a job was queued in.
local function pool_of(id)
  local origin = field(id, 'origin') or ''
  return string.match(origin, '^(.*):high$') or string.match(origin, '^(.*):low$') or origin
end

-- The lane a job was queued in.
local function lane_of(pool, id)
  local origin = field(id, 'origin')
  for _, lane in ipairs(lanes_of(pool)) do
    if lane == origin then return lane end
  end
  return pool
end

local function is_id(id) return string.match(id, '^[%w_-]+$') ~= nil end
