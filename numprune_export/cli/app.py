"""The Typer app. Errors are printed as a message, a hint and an exit code."""

from __future__ import annotations

import errno
import io
import sys
from typing import Annotated, NoReturn

import typer

from numprune_export.cli import (
    bench,
    check,
    compare,
    describe,
    doctor,
    package,
    report,
    run,
    sweep,
    validate,
    verify,
)
from numprune_export.core.errors import InputError, NumpruneError
from numprune_export.core.paths import shortened

EXIT_CODES = (
    "Exit codes: 0 success; 1 an exported model differs from PyTorch, or a file from its manifest;"
    " 2 an invalid recipe or option, or an unsupported architecture; 3 an optional dependency is"
    " missing; 4 a model or text is missing or unusable; 5 NaN or infinity in weights or activations;"
    " 6 the output folder is foreign, busy or full; 7 the hub cannot be reached; 8 the GPU or its"
    " driver is missing, too old or full; 9 the gate found a regression or an exceeded limit; 10 two reports cannot be"
    " compared; 130 interrupted."
)

app = typer.Typer(
    name="numprune-export",
    help="Prune Transformers without training, export them, and measure the speed-up.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from numprune_export.core.version import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    # File names may hold bytes that are not UTF-8, and a terminal's encoding may lack a character.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


app.command()(run.run)
app.command()(report.report)
app.command()(check.check)
app.command()(check.baseline)
app.command()(sweep.sweep)
app.command()(bench.bench)
app.command()(validate.validate)
app.command()(compare.compare)
app.command()(package.package)
app.command()(verify.verify)
app.command("inspect")(describe.inspect)
app.command()(describe.recipes)
app.command()(describe.targets)
app.command()(doctor.doctor)
app.command()(describe.schema)


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except NumpruneError as error:
        _refuse(error)
    except OSError as error:
        # Only command-line names can be this long; names in recipes are checked by `core.paths`.
        if error.errno != errno.ENAMETOOLONG:
            raise
        name = shortened(str(error.filename))
        _refuse(InputError(f"`{name}` is too long to be a path", hint="check the path"))


def _refuse(error: NumpruneError) -> NoReturn:
    for mistake in (error, *error.further):
        _say(mistake)
    sys.exit(error.exit_code)


def _say(error: NumpruneError) -> None:
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(str(error), err=True)
    typer.secho("hint: ", fg="cyan", err=True, nl=False)
    typer.echo(error.hint, err=True)
