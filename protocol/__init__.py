"""What the service and the worker say to each other: records that survive JSON, and the Redis and store they share."""
