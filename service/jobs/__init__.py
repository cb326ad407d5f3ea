"""Job submission and waiting for results."""
