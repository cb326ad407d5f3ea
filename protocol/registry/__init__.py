"""Registered models, the operator's models.toml, and live workers."""
