"""Readers of weight files; none of them runs code from a file."""
