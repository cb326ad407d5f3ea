"""The LoRAs of a request: their weights, and how they are resolved."""
