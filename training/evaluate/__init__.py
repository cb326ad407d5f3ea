"""Evaluation of the bundled model: is the image what its prompt says, and is it sharp."""
