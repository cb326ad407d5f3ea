"""Request and response schemas, body parsing and error responses."""
