"""The engine: continuous batching at the denoising step."""
