-- ARGV: terms, '', now as RQ writes it, pools. Answers the ids of the waiting jobs dropped.
local dropped = {}
for i = 4, #ARGV do
  for _, id in ipairs(drop_all_late(ARGV[i], terms.failure_ttl_s, ARGV[3])) do
    dropped[#dropped + 1] = id
  end
end
return dropped
