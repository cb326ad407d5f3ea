"""Write the tables of settings into docs/configuration.md: python -m bench.docs.settings_table

Variables, defaults and descriptions come from the settings classes. The text outside the two
markers is unchanged. The names of the variables are written to a file of `protocol`, too: with it
each program recognizes a misspelled name.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from pydantic.fields import FieldInfo

from protocol.settings import Settings
from protocol.variables import FILE
from service.settings import ServiceSettings
from worker.settings import WorkerSettings

PAGE = Path(__file__).parents[2] / "docs/configuration.md"
BEGIN = "<!-- settings: written by `make docs` -->\n"
END = "<!-- end of settings -->\n"
SECTIONS: tuple[tuple[str, type[Settings]], ...] = (
    ("API and workers", Settings),
    ("API", ServiceSettings),
    ("Workers", WorkerSettings),
)
OF_COMMANDS = {"DARKROOM_API_KEY", "DARKROOM_HOME"}  # read by commands without a settings class
# Defaults that depend on the machine or on the working directory.
COMPUTED = {
    "object_store_url": "a folder in `data/`",
    "models_home": "`~/.local/share/darkroom`",
    "worker_name": "the machine's name",
    "worker_vae_tile": "by memory",
    "worker_cache": "`~/.cache/darkroom`",
}


def main() -> None:
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
    FILE.write_text("\n".join(names()) + "\n", "utf-8")
    print(PAGE, FILE, sep="\n")


def with_tables(page: str) -> str:
    """Return `page` with the text between the markers replaced by the current tables."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def tables() -> str:
    """Return one Markdown table for each program, with the settings that only it has."""
    sections, listed = [], set[str]()
    for title, settings in SECTIONS:
        fields = {n: f for n, f in settings.model_fields.items() if n not in listed}
        listed |= fields.keys()
        head = f"### {title}\n\n| variable | default | meaning |\n|---|---|---|\n"
        sections.append(head + "".join(row(settings.variable(n), n, f) for n, f in fields.items()))
    return "\n".join(sections)


def names() -> list[str]:
    """Return the names of all variables."""
    return sorted({s.variable(name) for _, s in SECTIONS for name in s.model_fields} | OF_COMMANDS)


def row(variable: str, name: str, field: FieldInfo) -> str:
    return f"| `{variable}` | {default(name, field)} | {field.description} |\n"


def default(name: str, field: FieldInfo) -> str:
    """Return the default as it is written in the environment, or – if there is none."""
    if name in COMPUTED:
        return COMPUTED[name]
    match field.get_default():
        case None | () | "":
            return "–"
        case bool(value):
            return f"`{value}`".lower()
        case Enum(value=value):
            return f"`{value}`"
        case tuple(values):
            return f"`{','.join(getattr(value, 'value', str(value)) for value in values)}`"
        case float(value):
            return f"`{value:g}`"
        case value:
            return f"`{value}`"


if __name__ == "__main__":
    main()
