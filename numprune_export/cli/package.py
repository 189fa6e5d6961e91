"""`numprune-export package`: package a finished run for an inference server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def package(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="Output folder: new or empty.", show_default=False)],
    server: Annotated[str, typer.Option(help="Inference server.")] = "triton",
    target: Annotated[str, typer.Option(help="Target of the artifact to serve.")] = "onnx",
    variant: Annotated[str, typer.Option(help="`pruned` or `dense`.")] = "pruned",
    name: Annotated[
        str | None, typer.Option(help="Name of the model on the server.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set a server setting: `--set capacity=512`; may be repeated."),
    ] = None,
) -> None:
    """Write a package for an inference server: exported model, tokenizer, code and README."""
    from numprune_export.export import packaging, servers

    settings = servers.assignments(set_ or ()) | ({"name": name} if name is not None else {})
    packaging.package(run, out, server=server, target=target, variant=variant, settings=settings)
    typer.echo(f"package: {out / 'README.md'}")
