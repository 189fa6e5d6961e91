"""The command reference, from the Typer app: every command, argument and option with its help."""

from __future__ import annotations

from enum import Enum
from typing import Any

import typer

from schema_tables import cell

HEADER = "| argument or option | default | meaning |\n|---|---|---|\n"


def commands_page(app: typer.Typer) -> str:
    """Markdown: a section per command in the order of `--help`."""
    group: Any = typer.main.get_command(app)
    sections = [_command(name, command) for name, command in group.commands.items()]
    introduction = f"# Commands\n\n{group.help}\n\nExit codes: see [Exit codes](exit-codes.md).\n"
    return "\n".join([introduction, *sections])


def _command(name: str, command: Any) -> str:
    rows = "".join(_row(parameter) for parameter in command.params if parameter.name != "help")
    table = f"{HEADER}{rows}" if rows else "No arguments.\n"
    return f"## numprune-export {name}\n\n{command.help}\n\n{table}"


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return f"| {names} | {_default(parameter)} | {cell(parameter.help or '')} |\n"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or value == []:
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"
