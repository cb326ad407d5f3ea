"""Every file format that people bring: whose names mean what, and how to read each safely.

`keys/` maps the spellings of published files to the names of our networks, `families` tells what
kind of checkpoint a file is, and `original` lays a single file out as components. `convert` turns
everything that is not safetensors into it, in a process of its own; the server reads safetensors
and JSON only.
"""
