"""Command line: `darkroom up` starts the local stack, the other commands use it."""
