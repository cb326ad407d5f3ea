"""Encoding and storing results, and garbage collection of the store."""
