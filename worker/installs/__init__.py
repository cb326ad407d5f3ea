"""Installs of models by request."""
