"""Prometheus metrics and the heartbeat of the worker."""
