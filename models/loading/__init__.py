"""Loading and inspection of models from a folder, a single file or the hub."""
