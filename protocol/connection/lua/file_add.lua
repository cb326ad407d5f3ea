-- Keep the record of a client's file. Args: id, client (its name in keys), record (JSON), size, seconds,
-- max_files, max_bytes (of the client). Its oldest files make room for it.
local files, now = files_key(args.client), server_time()
redis.call('ZREMRANGEBYSCORE', files, '-inf', now)
local kept = redis.call('ZRANGE', files, 0, -1)  -- "id size" each, the oldest first
local count, bytes = #kept + 1, args.size
for _, member in ipairs(kept) do bytes = bytes + string.match(member, ' (%d+)$') end
for _, member in ipairs(kept) do
  if count <= args.max_files and bytes <= args.max_bytes then break end
  local id, size = string.match(member, '^(%S+) (%d+)$')
  forget_file(files, id, size)
  count, bytes = count - 1, bytes - size
end
redis.call('SET', file_key(args.id), args.record, 'EX', args.seconds)
redis.call('ZADD', files, now + args.seconds, args.id .. ' ' .. string.format('%d', args.size))
redis.call('EXPIRE', files, args.seconds)
redis.call('ZADD', deletions_key, now + args.seconds, upload_of(args.id))
