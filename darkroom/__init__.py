"""The command line: one command that starts the house, and small ones that use it."""
