"""The extension ControlNet: its units in requests, and its routes."""
