"""`darkroom models`: what a running server serves."""
