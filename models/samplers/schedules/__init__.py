"""Noise level schedules by name."""
