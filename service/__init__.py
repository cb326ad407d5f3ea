"""The HTTP front end: validates what clients ask, queues it, and brings them the pictures."""
