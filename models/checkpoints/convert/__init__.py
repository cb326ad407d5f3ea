"""Conversion of checkpoints to the diffusers layout, in a limited child process."""
