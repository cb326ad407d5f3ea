"""One denoising step for a batch of images."""
