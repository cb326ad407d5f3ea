"""Images for the README."""
