"""Sampling methods: each module lists its samplers in `SAMPLERS`."""
