"""Speed and memory of a 7B-shaped decoder with random weights, dense beside pruned, on one runtime.

    python benchmarks/gpu_speed.py torch-compiled OUT.json --minutes 3

A row is `torch`, `torch-compiled`, or an export target. The headline comes first (keep 0.5, one
sequence, 512 tokens), and what does not fit the time is left out and said. The file is rewritten
after every measurement, so that a run that is killed leaves what it had.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_rows import DECODE_STEPS, make, open_row, require_memory, under
from random_decoder import SHAPES

from numprune_export.core.errors import NumpruneError
from numprune_export.core.metric import Metrics, metrics_to_json
from numprune_export.export.decoder import Decoder
from numprune_export.export.runner import DecoderRunner
from numprune_export.measure.cost.decoder import cost, ideal_speedups
from numprune_export.measure.gpu import read as gpu
from numprune_export.measure.gpu.state import conditions, metrics, warnings
from numprune_export.measure.latency.decoder import DecoderWorkload
from numprune_export.measure.latency.interleave import Protocol
from numprune_export.measure.latency.pairs import LatencyRow, Pair, measure_pairs
from numprune_export.models.families import DECODERS


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
    made: dict[float, Decoder] = field(default_factory=dict)

    def shapes(self, keep: float) -> Decoder:
        """The row's model without weights, made once: 32 layers of modules take seconds."""
        if keep not in self.made:
            self.made[keep] = DECODERS["mistral"].decoder(make(self.options, keep, "meta"))
        return self.made[keep]

    def spent(self) -> bool:
        minutes: float = self.options.minutes
        return time.monotonic() - self.started > 60 * minutes

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
        session.skipped += [f"{describe(left_out)}: the time was spent" for left_out in cases]
        return
    with ExitStack() as stack:
        pair = Pair(dense, open_variant(session, f"keep{keep:g}", keep, stack))
        for case in cases:
            if session.spent():
                session.skipped.append(f"{describe(case)}: the time was spent")
            else:
                session.cases.append(measure(session, case, pair))
                session.write()


def open_variant(session: Session, name: str, keep: float, stack: ExitStack) -> DecoderRunner:
    """A variant open in its runtime, and its memory measured."""
    runner, memory = open_row(session.options, keep, stack)
    prefix = f"memory.{session.options.row}.{name}"
    session.memory |= {f"{prefix}.{key}": metric for key, metric in memory.items()}
    session.write()
    return runner


def describe(case: Case) -> str:
    return f"keep {case.keep}, batch {case.batch}, {case.tokens} tokens"


def measure(session: Session, case: Case, pair: Pair[DecoderRunner]) -> dict[str, Any]:
    """One case: dense and pruned in turns, with the GPU's state around it."""
    options = session.options
    vocabulary = SHAPES[options.shape].vocabulary
    tokens = np.random.default_rng(0).integers(3, vocabulary, (case.batch, case.tokens))
    workload = DecoderWorkload(tokens, case.tokens, case.tokens, DECODE_STEPS, ideal(session, case))
    before = gpu.read()
    row = LatencyRow(pair, under(options) | ({} if before is None else conditions(before)))
    measured = measure_pairs({options.row: row}, workload, Protocol(2, options.samples)).metrics
    after = gpu.read()
    doubts: tuple[str, ...] = ()
    if before is not None and after is not None:
        measured |= metrics(before, after)
        doubts = warnings(before, after)
    return {
        "keep": case.keep,
        "batch": case.batch,
        "tokens": case.tokens,
        "metrics": metrics_to_json(measured),
        "warnings": doubts,
    }


def ideal(session: Session, case: Case) -> dict[str, float]:
    """What the removed work allows, from the shapes alone."""
    dense, pruned = (
        cost(
            session.shapes(keep),
            batch=case.batch,
            prefill_length=case.tokens,
            past_length=case.tokens,
            itemsize=getattr(torch, session.options.dtype).itemsize,
        )
        for keep in (1.0, case.keep)
    )
    return ideal_speedups(dense, pruned)


if __name__ == "__main__":
    sys.exit(main())
