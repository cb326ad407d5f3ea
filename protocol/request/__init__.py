"""The generation request: its fields, and the validation of a client's parameters."""
