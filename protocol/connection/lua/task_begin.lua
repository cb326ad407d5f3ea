-- Add a task to those of its client. Args: tasks and options (keys), task, most, ttl_s, options_ttl_s.
redis.call('ZADD', args.tasks, server_time(), args.task)
redis.call('ZREMRANGEBYRANK', args.tasks, 0, -1 - args.most)
redis.call('EXPIRE', args.tasks, args.ttl_s)
redis.call('EXPIRE', args.options, args.options_ttl_s)
return 1
