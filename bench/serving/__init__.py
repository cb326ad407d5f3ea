"""Benchmarks of the whole service, over HTTP and Redis."""
