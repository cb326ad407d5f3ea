"""Logs, metrics and traces of both programs."""
