"""What the recipes of large models take on a 24 GB card, an 80 GB card and a CPU: estimates.

    python benchmarks/large_models.py

Reads the recipes and the shapes in `benchmarks/shapes`; no weights, no network, no GPU. The machines are those
of a table of published figures (`numprune_export/workflows/estimate/known_machines.py`), so the same
command gives the same page everywhere.
"""

from pathlib import Path
from typing import Annotated

import typer

from numprune_export import recipe
from numprune_export.workflows.estimate import Question, estimate
from numprune_export.workflows.estimate.forecast import Estimate, size_of, time_of
from numprune_export.workflows.estimate.known_machines import SERVER_CPU

HERE = Path(__file__).parent
OUT = HERE / "results" / "large_models.md"
MODELS = ("qwen2.5-0.5b", "llama-2-7b", "llama-3-8b", "llama-3-70b")
MACHINES = ("rtx4090-24gb", "h100-80gb", SERVER_CPU)
METHODS = {"as shipped": (), "`--set method=best`": ("method=best",)}


def of(name: str, machine: str, changes: tuple[str, ...]) -> Estimate:
    named = recipe.named(name, changes)
    question = Question(on=machine, config=HERE / "shapes" / f"{name}.json")
    return estimate(named.recipe, search=(named.folder,), question=question)


def row(method: str, prospect: Estimate) -> str:
    device = prospect.device_bytes
    slowest = max(prospect.stages, key=lambda stage: stage.seconds)
    cells = (
        method,
        prospect.machine.name,
        "blocks" if prospect.streamed else "whole",
        time_of(prospect.seconds),
        f"{slowest.name}, {time_of(slowest.seconds)}",
        "-" if device is None else size_of(device),
        size_of(prospect.memory_bytes),
        ", ".join(prospect.too_large) or ("fits" if prospect.limited else "-"),
    )
    return f"| {' | '.join(cells)} |"


def page() -> str:
    lines = [
        "# Large models",
        "",
        "`python benchmarks/large_models.py`: estimates of `inspect --plan` from shapes and published figures of the machines."
        " No figure was measured on a GPU.",
        "",
        "`whole`, `blocks`: whether the whole model is in the memory of the device, or one block at a time.",
    ]
    for name in MODELS:
        lines += section(name)
    return "\n".join(lines) + "\n"


def section(name: str) -> list[str]:
    """Lines of one model."""
    rows = [
        row(method, of(name, machine, changes))
        for method, changes in METHODS.items()
        for machine in MACHINES
    ]
    return [
        "",
        f"## {name}",
        "",
        "| recipe | machine | model | pruning | longest stage | device memory | host memory | too large |",
        "|---|---|---|---:|---|---:|---:|---|",
        *rows,
    ]


def main(out: Annotated[Path, typer.Option(help="The page.")] = OUT) -> None:
    """Write the page."""
    out.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
