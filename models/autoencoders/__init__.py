"""First stages: autoencoders between pixels and latents."""
