"""The records that service and worker exchange, and their common Redis and object store."""
