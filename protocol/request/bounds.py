"""Bounds as text for error messages."""


def exact(bound: float) -> str:
    """Return a bound so that the text, read as a number again, is exactly that bound."""
    return repr(int(bound)) if bound == int(bound) else repr(bound)
