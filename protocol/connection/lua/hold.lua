-- ARGV: for how many seconds, keys of inputs. Nobody sweeps them for so long. Answers those that are
-- being deleted at this very moment: to be held, and written, a little later.
local until_, going = server_time() + ARGV[1], {}
for i = 2, #ARGV do
  if redis.call('EXISTS', condemned_key(ARGV[i])) == 1 then
    going[#going + 1] = ARGV[i]
  else
    redis.call('ZADD', held_key, 'GT', until_, ARGV[i])
  end
end
return going
