"""Speed and memory of a 7B-shaped decoder with random weights, dense beside pruned, on one runtime.

    python benchmarks/gpu_speed.py torch-compiled OUT.json --minutes 3

A row is `torch`, `torch-compiled`, or an export target. The headline comes first (keep 0.5, one
sequence, 512 tokens), and what does not fit the time is left out and said. The file is rewritten
after every measurement, so that a run that is killed leaves what it had.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_decoder import SHAPES, random_decoder
from transformers import PreTrainedModel

from numprune_export import targets
from numprune_export.artifact import AccountsMemory, DecoderRunner
from numprune_export.benchmark import gpu
from numprune_export.benchmark.cost import cost, ideal_speedups
from numprune_export.benchmark.gpu_state import conditions, metrics, warnings
from numprune_export.benchmark.latency import Pair, Workload, measure_decoders
from numprune_export.errors import DeviceError, NumpruneError
from numprune_export.families import FAMILIES
from numprune_export.metric import Metric, Metrics, metrics_to_json
from numprune_export.validate.compiled import CompiledTorchRunner
from numprune_export.validate.reference import TorchRunner

DECODE_STEPS = 16
PYTORCH = ("torch", "torch-compiled")


@dataclass(frozen=True)
class Case:
    keep: float
    batch: int
    tokens: int


@dataclass
class Session:
    """What is measured, and what came of it so far."""

    options: argparse.Namespace
    started: float
    cases: list[dict[str, Any]]
    memory: Metrics
    skipped: list[str]

    @property
    def capacity(self) -> int:
        return max(self.options.tokens) + DECODE_STEPS

    def spent(self) -> bool:
        return time.monotonic() - self.started > 60 * self.options.minutes

    def write(self) -> None:
        options = self.options
        content = {
            "row": options.row,
            "shape": options.shape,
            "dtype": options.dtype,
            "device": options.device,
            "seconds": round(time.monotonic() - self.started, 1),
            "cases": self.cases,
            "memory": metrics_to_json(self.memory),
            "skipped": self.skipped,
        }
        partial = options.out.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=1) + "\n")
        partial.replace(options.out)


def main(arguments: Sequence[str] | None = None) -> int:
    session = Session(parse(arguments), time.monotonic(), [], {}, [])
    try:
        require_memory(session.options)
        with ExitStack() as stack:
            dense = open_variant(session, "dense", 1.0, stack)
            for keep in session.options.keep:
                measure_keep(session, dense, keep)
    except NumpruneError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    finally:
        session.write()
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("row", help="torch, torch-compiled, or a target")
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="PyTorch's")
    parser.add_argument("--dtype", default="float16", help="float16, bfloat16 or float32")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.5, 0.8])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=5.0, help="begin nothing after this")
    return parser.parse_args(arguments)


def measure_keep(session: Session, dense: DecoderRunner, keep: float) -> None:
    """Every batch and length at one width."""
    options = session.options
    cases = [Case(keep, batch, tokens) for batch in options.batch for tokens in options.tokens]
    if session.spent():
        session.skipped += [f"{describe(one)}: the time was spent" for one in cases]
        return
    with ExitStack() as stack:
        pair = Pair(dense, open_variant(session, f"keep{keep:g}", keep, stack))
        for case in cases:
            if session.spent():
                session.skipped.append(f"{describe(case)}: the time was spent")
            else:
                session.cases.append(measure(session, case, pair))
                session.write()


def describe(case: Case) -> str:
    return f"keep {case.keep}, batch {case.batch}, {case.tokens} tokens"


def measure(session: Session, case: Case, pair: Pair) -> dict[str, Any]:
    """One case: dense and pruned in turns, with the GPU's state around it."""
    options = session.options
    vocabulary = SHAPES[options.shape].vocabulary
    tokens = np.random.default_rng(0).integers(3, vocabulary, (case.batch, case.tokens))
    workload = Workload(tokens, case.tokens, case.tokens, DECODE_STEPS, 2, options.samples)
    before = gpu.read()
    found = measure_decoders(
        {options.row: pair},
        workload,
        ideal=ideal(session, case),
        conditions={options.row: under(options) | ({} if before is None else conditions(before))},
    )
    after, doubts = gpu.read(), ()
    if before is not None and after is not None:
        found |= metrics(before, after)
        doubts = warnings(before, after)
    return {
        "keep": case.keep,
        "batch": case.batch,
        "tokens": case.tokens,
        "metrics": metrics_to_json(found),
        "warnings": doubts,
    }


def ideal(session: Session, case: Case) -> Any:
    """What the removed work allows, from the shapes alone."""
    dense, pruned = (
        cost(
            FAMILIES["mistral"].decoder(make(session, keep, "meta")),
            batch=case.batch,
            prefill_length=case.tokens,
            past_length=case.tokens,
            itemsize=getattr(torch, session.options.dtype).itemsize,
        )
        for keep in (1.0, case.keep)
    )
    return ideal_speedups(dense, pruned)


def under(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "shape": options.shape,
        "dtype": options.dtype,
        "device": options.device,
        "torch": torch.__version__,
    }


def require_memory(options: argparse.Namespace) -> None:
    """Refuse what the GPU cannot hold, before anything is made.

    Raises:
        DeviceError: less memory is free than the dense and the widest pruned model take, and a fifth.
    """
    state = gpu.read() if options.device == "cuda" else None
    if state is None or state.memory_free_bytes is None:
        return
    size = getattr(torch, options.dtype).itemsize
    needed = 1.2 * size * SHAPES[options.shape].parameters * (1 + max(options.keep))
    if state.memory_free_bytes < needed:
        free = state.memory_free_bytes
        raise DeviceError(
            f"{free / 2**30:.1f} GiB of GPU memory are free, {needed / 2**30:.1f} GiB are needed",
            hint="use a larger GPU, or `--shape tiny`",
        )


def open_variant(session: Session, name: str, keep: float, stack: ExitStack) -> DecoderRunner:
    """A variant open in its runtime, and its memory measured."""
    held = held_bytes(session.options.device)
    runner, model = open_row(session, keep, stack)
    session.memory |= memory(session, name, runner, model, held)
    session.write()
    return runner


def open_row(
    session: Session, keep: float, stack: ExitStack
) -> tuple[DecoderRunner, PreTrainedModel | None]:
    options = session.options
    if options.row not in PYTORCH:
        return open_target(session, keep, stack), None
    model = make(session, keep, options.device)
    threads = None if options.device == "cuda" else 1
    if options.row == "torch":
        return stack.enter_context(TorchRunner(model, threads=threads)), model
    compiled = CompiledTorchRunner(model, capacity=session.capacity, threads=threads)
    return stack.enter_context(compiled), model


def make(session: Session, keep: float, device: str) -> PreTrainedModel:
    options = session.options
    return random_decoder(
        SHAPES[options.shape],
        keep,
        dtype=getattr(torch, options.dtype),
        device=device,
        positions=max(2048, session.capacity),
    )


def open_target(session: Session, keep: float, stack: ExitStack) -> DecoderRunner:
    """Export from the CPU, and open; the files live as long as the runner, the model does not."""
    options = session.options
    exporter = targets.find(options.row)
    settings = targets.settings_for(exporter, target_settings(session))
    targets.require_ready(exporter)
    folder = Path(tempfile.mkdtemp(prefix="gpu-speed-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    decoder = FAMILIES["mistral"].decoder(make(session, keep, "cpu"))
    artifact = exporter.export(decoder, folder, settings)
    return stack.enter_context(exporter.open(artifact, threads=1, capacity=session.capacity))


def target_settings(session: Session) -> dict[str, Any]:
    """The row's precision, and profiles around what is measured."""
    options = session.options
    if not options.row.startswith("trt"):
        return {"dtype": options.dtype}
    batch = {"min": 1, "opt": 1, "max": max(options.batch)}
    length = {"min": 1, "opt": min(options.tokens), "max": max(options.tokens)}
    slots = {"min": 1, "opt": session.capacity, "max": session.capacity}
    return {
        "dtype": options.dtype,
        "keep_graph": False,
        "prefill": {"batch": batch, "length": length, "positions": {"max": 1}},
        "decode": {"batch": batch, "capacity": slots},
    }


def held_bytes(device: str) -> int:
    if device != "cuda" or not torch.cuda.is_available():
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def memory(
    session: Session, name: str, runner: DecoderRunner, model: PreTrainedModel | None, held: int
) -> Metrics:
    """What a variant holds on the device at one sequence of full length.

    A target says it by part. For PyTorch: the bytes of its weights, and the most that its allocator
    gave out while the sequence ran.
    """
    length = session.capacity - DECODE_STEPS
    runner.prefill(np.zeros((1, length), np.int64))
    runner.decode(np.zeros(1, np.int64))
    found: dict[str, int] = {}
    if isinstance(runner, AccountsMemory):
        parts = dict(runner.device_memory())
        found = {f"{key}_bytes": size for key, size in parts.items()}
        found["peak_bytes"] = sum(parts.values())
    elif model is not None:
        found["weights_bytes"] = sum(one.nbytes for one in model.parameters())
        if session.options.device == "cuda":
            found["peak_bytes"] = torch.cuda.max_memory_allocated() - held
    conditions_ = {**under(session.options), "batch": 1, "tokens": length}
    return {
        f"memory.{session.options.row}.{name}.{key}": Metric(
            one, "bytes", 1, conditions=conditions_
        )
        for key, one in found.items()
    }


if __name__ == "__main__":
    sys.exit(main())
