"""Webhooks: calls to clients' addresses when their jobs end (Standard Webhooks)."""
