"""Memory and time of pruning a decoder block by block, beside the whole model in memory: one table.

    python benchmarks/streamed_cost.py OUT --out benchmarks/results/streamed_cost.md

A decoder with random bfloat16 weights is written as shards, one per block, and pruned to three
quarters by `paper-numerical` without an export. Each way runs in a process of its own. Memory is
that process's anonymous memory (`RssAnon`), which the operating system cannot drop, sampled every
20 ms, without what it had when PyTorch and this package were imported. Random weights exercise
memory and time, not quality.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer

SHAPES = {
    "0.95b": {"hidden": 2048, "layers": 16, "heads": 16, "channels": 5632, "vocabulary": 32000},
    "small": {"hidden": 256, "layers": 4, "heads": 8, "channels": 704, "vocabulary": 1024},
}
WAYS = ("whole", "streamed")


def main(
    folder: Annotated[Path, typer.Argument(help="For the model and the runs; it is kept.")],
    shape: Annotated[str, typer.Option(help=", ".join(SHAPES))] = "0.95b",
    sequences: int = 1,
    tokens: int = 256,
    out: Annotated[Path | None, typer.Option(help="Markdown file of the table.")] = None,
    way: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Prune a random decoder in both ways."""
    if way is not None:
        sys.stdout.write(json.dumps(measured(folder, way, sequences, tokens)) + "\n")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder / "model", shape)
    rows = {}
    for name in WAYS:
        arguments = [str(folder), "--way", name, "--sequences", str(sequences)]
        command = [sys.executable, __file__, *arguments, "--tokens", str(tokens)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows[name] = json.loads(done.stdout.splitlines()[-1])
    text = table(rows, shape, sequences * tokens)
    sys.stdout.write(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")


def write_model(folder: Path, shape: str) -> None:
    """The model, its tokenizer and a text, unless they are there."""
    if (folder / "config.json").exists():
        return
    import torch
    from random_decoder import Shape, random_decoder
    from transformers import AutoTokenizer

    from numprune_export.models.checkpoint.shards import BlockShards
    from numprune_export.recipe import builtin_dir

    folder.mkdir(parents=True, exist_ok=True)
    model = random_decoder(
        Shape(**SHAPES[shape]), 1.0, dtype=torch.bfloat16, device="cpu", positions=4096
    )
    shards = BlockShards(folder, len(model.model.layers), "model.layers")
    for index, block in enumerate(model.model.layers):
        shards.add(block, index)
    shards.close(model.state_dict())
    AutoTokenizer.from_pretrained(builtin_dir() / "tiny-llama").save_pretrained(folder)
    model.config.save_pretrained(folder)


def measured(folder: Path, way: str, sequences: int, tokens: int) -> dict[str, Any]:
    """Prune in this process: seconds of wall and processor time, and GB of anonymous memory."""
    from numprune_export import recipe as recipes
    from numprune_export.core.progress import Silent
    from numprune_export.core.run_folder import open_folder
    from numprune_export.pipeline.context import Context
    from numprune_export.pipeline.opening import open_inputs
    from numprune_export.pipeline.rounds import pruned_checkpoint
    from numprune_export.recipe import builtin_dir

    text = str(builtin_dir() / "data" / "sotu_2011_2021.txt")
    windows = {"texts": [text], "tokens_per_sequence": tokens, "batch": 1}
    content = {
        "version": 1,
        "model": {"source": str(folder / "model"), "dtype": "auto"},
        "keep": 0.75,
        "method": "paper-numerical",
        "calibration": {**windows, "sequences": sequences},
        "evaluation": {**windows, "sequences": 1, "seed": 1},
        "targets": {},
        "stream_weights": way == "streamed",
        "device": "cpu",
    }
    watch = Memory()
    before, start, processor = watch.now(), time.perf_counter(), time.process_time()
    with watch, open_folder(folder / way) as run:
        recipe = recipes.parse(content, "streamed_cost")
        dense, kind = open_inputs(recipe, (folder,))
        pruned = pruned_checkpoint(Context(recipe, run, Silent()), kind, dense)
    return {
        "wall": time.perf_counter() - start,
        "processor": time.process_time() - processor,
        "runtime": before / 1e9,
        "peak": (watch.peak - before) / 1e9,
        "stages": {stage.name: stage.seconds for stage in pruned.stages},
        "weights": weights_of(pruned.checkpoint.folder),
    }


def weights_of(folder: Path) -> str:
    """A hash over the names and bytes of all tensors, whatever their shards."""
    import torch
    from safetensors import safe_open

    digests = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                raw = file.get_tensor(name).contiguous().view(torch.uint8).numpy()
                digests[name] = hashlib.sha256(raw.tobytes()).hexdigest()
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


class Memory:
    """The peak of this process's anonymous memory, sampled by a thread."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def now(self) -> int:
        """Bytes."""
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
        raise RuntimeError("this system does not tell anonymous memory")

    def _sample(self) -> None:
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, self.now())


def table(rows: dict[str, dict[str, Any]], shape: str, tokens: int) -> str:
    """The page of results."""
    whole, streamed = (rows[name] for name in WAYS)
    lines = [
        "# Pruning block by block",
        "",
        f"`paper-numerical` to three quarters, {shape} decoder in bfloat16 with random weights,"
        f" {tokens} calibration tokens, no export. Made by `python benchmarks/streamed_cost.py`.",
        "",
        "| | whole | streamed | streamed / whole |",
        "|---|---:|---:|---:|",
    ]
    for key, title in (
        ("peak", "peak anonymous memory above the runtime, GB"),
        ("processor", "processor time, s"),
        ("wall", "wall time, s"),
    ):
        ratio = streamed[key] / whole[key]
        lines.append(f"| {title} | {whole[key]:.2f} | {streamed[key]:.2f} | {ratio:.2f} |")
    lines.append(f"| runtime, GB | {whole['runtime']:.2f} | {streamed['runtime']:.2f} | |")
    for stage, seconds in streamed["stages"].items():
        other = whole["stages"].get(stage, 0.0)
        if max(seconds, other) >= 1:
            lines.append(f"| {stage}, s | {other:.1f} | {seconds:.1f} | {seconds / other:.2f} |")
    same = whole["weights"] == streamed["weights"]
    lines += ["", f"The weights of the pruned models are {'equal' if same else 'different'}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
