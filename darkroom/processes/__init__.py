"""The local stack and its child processes."""
