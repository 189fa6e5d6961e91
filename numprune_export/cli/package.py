"""`numprune-export package`: a finished run to what an inference server loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def package(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="Folder to write: new or empty.", show_default=False)],
    server: Annotated[str, typer.Option(help="Inference server.")] = "triton",
    target: Annotated[str, typer.Option(help="Target of the artifact to serve.")] = "onnx",
    variant: Annotated[str, typer.Option(help="`pruned` or `dense`.")] = "pruned",
    name: Annotated[
        str | None, typer.Option(help="What clients call the model.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the server: `--set capacity=512`."),
    ] = None,
) -> None:
    """Write what an inference server loads: the exported model, its tokenizer, code and a README."""
    from numprune_export.export import packaging, servers

    settings = servers.assignments(set_ or ()) | ({"name": name} if name is not None else {})
    packaging.package(run, out, server=server, target=target, variant=variant, settings=settings)
    typer.echo(f"package: {out / 'README.md'}")
