"""The generation request: its fields, and the validation of what a client sends."""
