-- Installs of models. Each has: request, created_at, state, share, part, token (of the worker that holds
-- it), attempts; at its end name and kind, or error (protocol.registry.installs).

local installs_key = ours .. ':installs'  -- sorted: id -> when it was requested
local open_installs_key = ours .. ':installs:open'  -- sorted: id -> from when on it may be claimed
local function install_key(id) return ours .. ':install:' .. id end

-- The ids of the installs that have not ended. Those whose records have expired are removed.
local function open_installs()
  local open = {}
  for _, id in ipairs(redis.call('ZRANGE', open_installs_key, 0, -1)) do
    if redis.call('EXISTS', install_key(id)) == 1 then
      open[#open + 1] = id
    else
      redis.call('ZREM', open_installs_key, id)
    end
  end
  return open
end
