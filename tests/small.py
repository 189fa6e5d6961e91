"""A recipe that runs the whole chain on the shipped tiny model in seconds."""

from pathlib import Path

import yaml

from numprune_export import recipe as recipes
from numprune_export.core.progress import Observer, Silent
from numprune_export.core.run_folder import open_folder
from numprune_export.recipe import builtin_dir
from numprune_export.report.schema import Report

BRIEF = {
    "evaluation": {"texts": ["small.txt"], "sequences": 2, "tokens_per_sequence": 40, "seed": 1},
    "parity": {"steps": 2},
    "benchmark": {
        "prefill": 8, "past": 8, "decode_steps": 2, "samples": 5, "sessions": 1, "warmup": 0,
        "reference": False,
    },
}  # fmt: skip
"""Sections of a small recipe whose measurements are not looked at closely."""


def small_recipe(folder: Path, **changes) -> Path:
    """Write it as `folder/small.yaml`; top-level keys in `changes` replace those of the recipe."""
    speeches = (builtin_dir() / "data" / "sotu_2011_2021.txt").read_text(encoding="utf-8")
    text = folder / "small.txt"
    text.write_text(speeches[:60_000], encoding="utf-8")  # a long text takes long to tokenise
    content = {
        "version": 1,
        "model": str(builtin_dir() / "tiny-llama"),
        "keep": 0.7,
        "calibration": {
            "texts": [str(text)],
            "sequences": 16,
            "tokens_per_sequence": 64,
        },
        "evaluation": {
            "texts": [str(text)],
            "sequences": 4,
            "tokens_per_sequence": 48,
            "seed": 1,
        },
        "parity": {"steps": 8},
        "benchmark": {
            "prefill": 16,
            "past": 16,
            "decode_steps": 4,
            "samples": 5,
            "sessions": 1,
            "warmup": 0,
        },
        "threads": 1,
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


def small_run(folder: Path, observer: Observer | None = None, **changes) -> Report:
    """Run it in this process, into `folder/out`."""
    from numprune_export import pipeline  # tests of the command line alone need not wait for it

    named = recipes.named(str(small_recipe(folder, **changes)), ())
    return pipeline.run(
        named.recipe,
        name=named.name,
        folder=folder / "out",
        search=(folder,),
        observer=observer or Silent(),
    )


def pruned_alone(recipe: Path, folder: Path) -> None:
    """Run its stages up to the saved model in this process: no export, measurements or report."""
    from numprune_export.pipeline.context import Context
    from numprune_export.pipeline.opening import open_inputs
    from numprune_export.pipeline.rounds import pruned_checkpoint

    chosen = recipes.named(str(recipe), ()).recipe
    with open_folder(folder) as run_folder:
        dense, kind = open_inputs(chosen, [recipe.parent])
        pruned_checkpoint(Context(chosen, run_folder, Silent()), kind, dense)
