"""Uploaded images: download, sanitization, decoding."""
