"""Evaluation of the bundled model: correctness and sharpness of its images."""
