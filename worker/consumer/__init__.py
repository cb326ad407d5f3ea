"""Claiming jobs from the queue and running them on the engine."""
