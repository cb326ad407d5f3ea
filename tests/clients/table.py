"""Write the table of client packages into docs/dialects/clients.md: python -m tests.clients.table

Versions come from the locks, and what is tested from the list that the tests are made of.
"""

from collections.abc import Sequence

from tests.clients.clients import (
    COMFYUI_CLIENTS,
    OPENAI_CLIENTS,
    STABILITY_CLIENTS,
    WEBUI_CLIENTS,
    Action,
    Client,
)
from tests.clients.inference_clients import FAL_CLIENTS, HUGGINGFACE_CLIENTS
from tests.clients.replicate_clients import REPLICATE_CLIENTS
from tests.support.imports import ROOT

PAGE = ROOT / "docs" / "dialects" / "clients.md"
BEGIN = "<!-- clients: written by `make docs` -->\n"
END = "<!-- end of clients -->\n"


def with_tables(page: str) -> str:
    """Return `page` with the text between the markers replaced by the current tables."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    openai = _section("OpenAI's Images API", OPENAI_CLIENTS)
    webui = _section("AUTOMATIC1111's web UI", WEBUI_CLIENTS)
    stability = _section("Stability's REST API", STABILITY_CLIENTS)
    fal = _section("fal", FAL_CLIENTS)
    huggingface = _section("Hugging Face's inference API", HUGGINGFACE_CLIENTS)
    replicate = _section("Replicate's API", REPLICATE_CLIENTS)
    comfyui = _section("ComfyUI", COMFYUI_CLIENTS)
    sections = "\n".join((openai, webui, stability, replicate, fal, huggingface, comfyui))
    return f"{before}{BEGIN}\n{sections}\n{END}{after}"


def _section(title: str, clients: Sequence[Client]) -> str:
    can = frozenset[Action]().union(*(client.actions for client in clients))
    columns = [action for action in Action if action in can]
    head = ["client", "version", *columns]
    rows = [head, ["---"] * len(head), *(_row(client, columns) for client in clients)]
    return f"### {title}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(client: Client, columns: Sequence[Action]) -> list[str]:
    pairs = zip(client.packages, client.versions, strict=True)
    versions = ", ".join(f"`{package}` {version}" for package, version in pairs)
    return [client.name, versions, *("yes" if one in client.actions else "–" for one in columns)]


def main() -> None:
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
