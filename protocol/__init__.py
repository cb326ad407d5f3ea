"""What service and worker tell each other: JSON records, and the Redis and store they share."""
