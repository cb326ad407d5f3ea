-- Move a task to those of its client that have ended. Args: tasks and ended (keys), task, id, most, ttl_s.
redis.call('ZREM', args.tasks, args.task)
redis.call('LREM', args.ended, 0, args.id)
redis.call('LPUSH', args.ended, args.id)
redis.call('LTRIM', args.ended, 0, args.most - 1)
redis.call('EXPIRE', args.ended, args.ttl_s)
return 1
