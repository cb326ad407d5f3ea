"""Logs, metrics and traces that both programs share."""
