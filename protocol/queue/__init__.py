"""The job queue: submission, job records, progress, idempotency and statistics."""
