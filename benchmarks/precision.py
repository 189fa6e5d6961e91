"""What the rule of precision costs in quality: weights, and solves, in fewer digits than on the CPU.

    python benchmarks/precision.py smollm2-keep80 --set calibration.sequences=16 --set generated_text=0 \
        --out benchmarks/results/precision.json

Each row prunes the recipe's model on the CPU in the numbers that a GPU would use, and measures the
perplexity of the result in fp32. Rows that are done are kept, so that a run which was stopped goes on.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated
from unittest import mock

import typer

from numprune_export.core.progress import Silent
from numprune_export.core.run_folder import open_folder
from numprune_export.data import corpus
from numprune_export.data.corpus_settings import Corpus
from numprune_export.measure.quality.perplexity import perplexity
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.numerics import least_squares
from numprune_export.numerics.arithmetic import Solves
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.causal_lm import CausalLm
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.rounds import planned
from numprune_export.pipeline.stages.compensate import compensated
from numprune_export.recipe import Recipe, load, locate

ROWS: dict[str, tuple[str, Solves]] = {
    "fp32, solves in fp64": ("float32", "float64"),
    "fp32, solves in fp32, refined": ("float32", "float32, refined"),
    "bfloat16, solves in fp64": ("bfloat16", "float64"),
    "bfloat16, solves in fp32, refined": ("bfloat16", "float32, refined"),
}
"""Dtype of the model, and the numbers of its solves."""


def measured(recipe: Recipe, search: list[Path], solves: Solves, keep: bool) -> dict[str, float]:
    """Perplexity of the pruned model, or of the dense one, and the processor seconds of pruning."""
    source = resolve(recipe.model.source, revision=None, search=search)
    dense = Dense(source, recipe.model.dtype, single_query_heads=recipe.query_heads == "single")
    assert isinstance(dense.family, RotaryDecoder)
    kind = CausalLm(recipe, dense.family, dense, search)
    start, model = time.process_time(), dense.model
    if not keep:
        with (
            tempfile.TemporaryDirectory() as folder,
            open_folder(Path(folder) / "run") as run_folder,
            mock.patch.object(least_squares, "solves_on", return_value=solves),
        ):
            context = Context(recipe, run_folder, Silent())
            plans = planned(context, kind, dense)
            with matmul_precision(recipe.matmul_precision):
                model = compensated(context, dense, plans.compensation)
    seconds = time.process_time() - start
    evaluation, tokenizer = recipe.evaluation, dense.require_tokenizer()
    assert isinstance(evaluation, Corpus)
    windows = corpus.draw(evaluation, tokenizer, search, embeddings=dense.embeddings)
    with TorchRunner(model.float(), threads=None) as runner:
        value = perplexity(runner, windows.tokens, batch=2).value
    return {"perplexity": value, "seconds": seconds}


def main(
    name: Annotated[str, typer.Argument(help="A recipe of a language model.")],
    out: Annotated[Path, typer.Option(help="A JSON file, row by row.")],
    change: Annotated[list[str] | None, typer.Option("--set", help="As for `run`.")] = None,
) -> None:
    """Print the table as it grows."""
    path = locate(name)
    search = [path.parent, Path.cwd()]
    done = json.loads(out.read_text()) if out.exists() else {}
    for row, (dtype, solves) in {"dense": ("float32", "float64"), **ROWS}.items():
        if row not in done:
            recipe = load(path, [*(change or []), f"model.dtype={dtype}", "targets={}"])
            done[row] = measured(recipe, search, solves, row == "dense")
            out.write_text(json.dumps(done, indent=1) + "\n")
        ratio = done[row]["perplexity"] / done["dense"]["perplexity"]
        typer.echo(f"| {row} | {done[row]['perplexity']:.4f} | {ratio:.4f} |")


if __name__ == "__main__":
    typer.run(main)
