"""The object store, and the pins that keep its objects from deletion."""
