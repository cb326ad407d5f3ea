"""Benchmarks: each one command, a table for people, JSON on the last line for machines."""
