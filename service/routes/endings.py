"""Addresses of files that end like them, for programs that look at the ending."""

from collections.abc import Callable, Iterable

from fastapi import APIRouter, Response

FileRoute = Callable[..., Response]


def with_endings(
    router: APIRouter, path: str, endings: Iterable[str]
) -> Callable[[FileRoute], FileRoute]:
    """Serve the files of `path` also at addresses that end like them.

    Must stand below the route without an ending, which would take the ending for a part of its
    last parameter.
    """

    def decorate(function: FileRoute) -> FileRoute:
        for ending in endings:
            add = router.get(f"{path}.{ending}", name="get_file", include_in_schema=False)
            add(function)
        return function

    return decorate
