"""The HTTP service: validates requests, queues jobs and returns their images."""
