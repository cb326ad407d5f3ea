-- ARGV: job id.
return seen(ARGV[1])
