"""Checkpoint files: detection of their contents, safe reading, and conversion.

`detect/` makes one record of a file from its keys and shapes: kind, family, and the source of each
of our parameters. `keys/` holds the spellings of published files as tables. `readers/` reads files
without running code. `convert/` converts any other format to safetensors in a child process: the
server reads safetensors and JSON only.
"""
