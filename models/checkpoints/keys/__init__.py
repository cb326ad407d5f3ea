"""Tables of the key names in published files: one module for each network."""
