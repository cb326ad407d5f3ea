"""Model descriptions and cards, read without loading weights."""
