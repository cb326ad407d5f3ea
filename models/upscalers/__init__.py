"""Upscalers: networks from an image to a larger one, in pixels, and their execution in tiles."""
