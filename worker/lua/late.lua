-- ARGV: terms, pool, now as RQ writes it. Answers the ids of the waiting jobs dropped.
return drop_all_late(pool, terms.failure_ttl_s, ARGV[3])
