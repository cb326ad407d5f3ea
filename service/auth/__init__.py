"""API key authentication and admission control."""
