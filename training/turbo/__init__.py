"""A LoRA that lets the diffusion model generate in four steps without guidance."""
