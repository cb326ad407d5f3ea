-- The files of clients (protocol.clients.files): a record each, and a list of those of a client.

local function file_key(id) return ours .. ':file:' .. id end
local function files_key(client) return ours .. ':files:' .. client end
local function upload_of(id) return 'uploads/' .. id end

-- Forget a file and note its object, to be deleted now.
local function forget_file(files, id, size)
  redis.call('DEL', file_key(id))
  redis.call('ZREM', files, id .. ' ' .. size)
  redis.call('ZADD', deletions_key, server_time(), upload_of(id))
end
