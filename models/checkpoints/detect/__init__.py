"""Detection of what a checkpoint file contains."""
