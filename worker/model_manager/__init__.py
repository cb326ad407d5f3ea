"""Loading, eviction, warmup and profiling of models."""
