"""Write the pages that follow from the code: docs/cli.md and docs/errors.md. `make docs`; a test holds them equal."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import click

import adapter_registry
from adapter_cli.main import adapters
from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.problem_codes import CODES, NOTICES

HERE = Path(__file__).parent
EXIT_CODES = {
    0: "done, or already so",
    1: "anything else: not found, conflict, in use, store unavailable",
    2: "usage: a name, option or document that no rule accepts",
    3: "refused by a gate",
    4: "waiting: something a gate asks for is not there yet",
    5: "undecided: the evidence is inconclusive or incomparable",
    6: "another base than the one the adapter is locked to",
    7: "bytes that are refused: an adapter that fails intake, a digest that does not match, a damaged store",
    8: "a document of `adapters sync` or `adapters deploy` that is wrong: starting again does not help",
    130: "stopped by Ctrl-C",
}


def cli_page() -> str:
    """Every command with its help."""
    lines = ["# Commands", "", "Written by `make docs` from the commands' own help.", "", "## Exit codes", ""]
    lines += [f"- `{code}` {meaning}" for code, meaning in EXIT_CODES.items()]
    for path, command in _commands("adapters", adapters):
        asked = adapters.context_settings["help_option_names"]
        context = click.Context(
            command, info_name=path, terminal_width=100, max_content_width=100, help_option_names=asked
        )
        lines += ["", f"## {path}", "", "```", command.get_help(context).rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from _commands(f"{path} {name}", child)


def error_classes() -> list[type[RegistryError]]:
    """Every error the package defines, by code."""
    for module in pkgutil.walk_packages(adapter_registry.__path__, "adapter_registry."):
        if not module.name.endswith("_child"):
            importlib.import_module(module.name)
    found: list[type[RegistryError]] = []
    waiting: list[type[RegistryError]] = [RegistryError]
    while waiting:
        children = waiting.pop().__subclasses__()
        found += children
        waiting += children
    return sorted(
        {kind for kind in found if hasattr(kind, "code") and not kind.__name__.startswith("_")},
        key=lambda kind: (kind.code, kind.__name__),
    )


def errors_page() -> str:
    """Every error, problem and notice code with its meaning."""
    lines = ["# Errors", "", "Written by `make docs` from the code. Codes are stable; texts are for people.", ""]
    lines += ["## Errors", "", "| code | HTTP | exit | meaning |", "|---|---|---|---|"]
    for kind in error_classes():
        meaning = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
        lines.append(f"| `{kind.code}` | {kind.status} | {kind.exit_code} | {meaning} |")
    lines += [
        "",
        "## Problems",
        "",
        "Each names file, field or tensor, expected, found and the way out; all at once.",
        "",
    ]
    lines += ["| code | meaning |", "|---|---|", *(f"| `{code}` | {text} |" for code, text in sorted(CODES.items()))]
    lines += ["", "## Notices", "", "Worth knowing; they block nothing.", "", "| code | meaning |", "|---|---|"]
    lines += [f"| `{code}` | {text} |" for code, text in sorted(NOTICES.items())]
    return "\n".join(lines) + "\n"


PAGES = {"cli.md": cli_page, "errors.md": errors_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
