"""The resolution of a ComfyUI graph into one of our requests. A graph is data: nothing is run."""
