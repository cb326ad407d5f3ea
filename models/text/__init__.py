"""Tokenizers and prompt emphasis."""
