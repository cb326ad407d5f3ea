"""Networks, with the layer names of published checkpoints."""
