"""Moments, gradients, scores and repair of a few 7B-shaped blocks, read one at a time.

    python benchmarks/gpu_pruning.py OUT.json --shape 7b-4-blocks --device cuda

Random weights in bfloat16, written as shards and streamed; random tokens, for time and memory do not
depend on their meaning. OUT.json is rewritten after every step, so that a kill leaves what there was. A
step's `of_model_s` are its seconds per block times the blocks of the whole model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_decoder import SHAPES, save_random

from numprune_export.calibration.gradients.output_fisher import next_token_fisher
from numprune_export.calibration.statistics import Statistics, collect
from numprune_export.data.corpus import Windows
from numprune_export.models.checkpoint.streamed import read_streamed
from numprune_export.models.families import DECODERS
from numprune_export.models.residency import weight_of
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.pruning.apply import FrontToBack
from numprune_export.pruning.compensate.closed_form import ClosedForm, ProducerRefit
from numprune_export.pruning.plan import Plan
from numprune_export.pruning.score.fisher_obs import FisherObs

WHOLE_BLOCKS = 32
LIMITS_S = {"moments": 15.0, "gradients": 5.0, "score": 20.0, "repair": 45.0}
"""Seconds to reach on an H200 for the whole model, 128 x 2048 tokens."""
LEARNED = 12
"""Windows of the gradients."""
KEEP = 0.8


@dataclass
class Steps:
    """Rows of the finished steps, written after each."""

    out: Path
    device: torch.device
    blocks: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        result = work()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - start
        whole = WHOLE_BLOCKS * taken / self.blocks if name in LIMITS_S else None
        row = {"step": name, "seconds": taken, "of_model_s": whole, "limit_s": LIMITS_S.get(name)}
        row["device_GB"] = self._peak()
        row["host_anonymous_GB"] = anonymous_gb()
        self.rows.append(row)
        self.out.write_text(json.dumps({"steps": self.rows}, indent=1) + "\n", encoding="utf-8")
        return result

    def _peak(self) -> float | None:
        return torch.cuda.max_memory_allocated() / 1e9 if self.device.type == "cuda" else None


def anonymous_gb() -> float | None:
    """Resident memory that is no file's page; None where the system does not say."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    values = [line.split()[1] for line in text.splitlines() if line.startswith("RssAnon")]
    return int(values[0]) / 1e6 if values else None


def tick(_: int) -> None:
    return


def windows_of(count: int, length: int, vocabulary: int) -> Windows:
    tokens = np.random.default_rng(0).integers(3, vocabulary, (count, length))
    return Windows(tokens, np.full(count, length))


def check(options: argparse.Namespace, folder: Path) -> None:
    device, shape = torch.device(options.device), SHAPES[options.shape]
    steps = Steps(options.out, device, shape.layers)
    steps.run("write shards", lambda: save_random(shape, folder, dtype=torch.bfloat16))
    model = steps.run("open", lambda: read_streamed(folder, None, device))
    family = DECODERS["mistral"].with_single_query_heads()
    sites = family.sites(model)
    text = windows_of(options.sequences, options.length, shape.vocabulary)
    few = text.rows(np.arange(min(LEARNED, options.sequences)))

    def moments() -> dict[str, Statistics]:
        """Those of the last block are kept."""
        last: dict[str, Statistics] = {}
        for block in collect(model, family, text, options.batch, tick, 2):
            last = block
        return last

    with matmul_precision("auto", device):
        statistics = steps.run("moments", moments)
        fishers = steps.run(
            "gradients",
            lambda: list(next_token_fisher(model, family, few, batch=options.batch, tick=tick)),
        )
        score_last(steps, model, family, statistics, fishers)
        # The scored block's statistics are no part of what the repair needs.
        del fishers
        statistics.clear()
        plan = Plan(sites, {site.name: tuple(range(round(KEEP * site.units))) for site in sites})
        repair = ClosedForm(producers=ProducerRefit())
        order = FrontToBack(family, plan, repair, text, options.batch)
        steps.run("repair", lambda: order.prune(model, tick))


def score_last(
    steps: Steps, model: Any, family: Any, statistics: dict[str, Statistics], fishers: list[Any]
) -> None:
    """The score of the last block alone, counted as one block."""
    method = FisherObs(centred=False)

    def score() -> None:
        for site in family.sites(model):
            if site.name in statistics:
                metric = next(block[site.name] for block in fishers if site.name in block)
                sums = replace(statistics[site.name], output_fisher=metric)
                method.removal(weight_of(model, family, site.block, site.consumer), sums, site)

    blocks, steps.blocks = steps.blocks, 1
    steps.run("score", score)
    steps.blocks = blocks


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b-4-blocks")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=4)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="gpu-pruning-") as made:
        check(parse(None), Path(made))
