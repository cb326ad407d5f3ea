"""Autotuning: choices made by measurement when a model is loaded."""
