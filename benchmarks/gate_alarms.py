"""How often the gate alarms for nothing, and how often it finds a real slowdown.

    python benchmarks/gate_alarms.py FOLDER --busy 0 --count 50
    python benchmarks/gate_alarms.py FOLDER --busy 2 --count 50

Each report is measured by a process of its own, with the protocol of `numprune-export run`: a small
decoder on the target `onnx`, one thread, opened anew 12 times, 8 interleaved rounds each. Its
`dense` side is always the same model; its `pruned` side is that model again, or one whose MLP was
widened until a forward pass costs 5 % more operations. Comparisons are of two reports with the model
itself (an alarm is false), and of one with itself and one with the wider model (an alarm is right).
Beside them stands what the wider model really takes: processor time over all reports.

FOLDER keeps the reports and gets gate_alarms.{md,json}, of all that was measured: the same command
goes on where it was stopped (`--minutes` stops it). `--busy` starts that many processes that do
nothing but count: one per core makes a loaded machine.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from numprune_export.core.metric import metrics_from_json, metrics_to_json
from numprune_export.export.artifact import Artifact
from numprune_export.gate import evidence
from numprune_export.gate.judge import judge
from numprune_export.gate.limits import Gate
from numprune_export.gate.noise import taken_away
from numprune_export.gate.verdict import Verdict
from numprune_export.measure.environment import describe
from numprune_export.measure.latency.decoder import DecoderWorkload
from numprune_export.measure.latency.interleave import Protocol
from numprune_export.measure.latency.pairs import LatencyRow, Pair, measure_pairs
from numprune_export.measure.latency.sessions import ReopenedDecoder, reopener
from numprune_export.report.schema import Report, measurements
from numprune_export.report.store import to_json
from numprune_export.report.tables.table import table
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings

SHAPE = {"hidden": 512, "layers": 2, "heads": 8, "vocabulary": 512}
CHANNELS = {"same": 1376, "wider": 1480}
"""MLP channels; the wider model has 5 % more multiply-accumulates, attention and vocabulary included."""
TOKENS, STEPS, SESSIONS, ROUNDS = 64, 4, 12, 8
Side = Literal["same", "wider"]


def main(
    folder: Annotated[Path, typer.Argument(help="Where reports are kept.")],
    count: Annotated[int, typer.Option(help="Comparisons of each kind.")] = 50,
    busy: Annotated[int, typer.Option(help="Processes that keep the machine busy.")] = 0,
    minutes: Annotated[float, typer.Option(help="Stop measuring after these.")] = math.inf,
    measure: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    if measure:
        sys.stdout.write(json.dumps(measured(folder, measure)) + "\n")
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    artifacts = prepared(folder)
    reports = folder / f"busy{busy}"
    reports.mkdir(exist_ok=True)
    until = time.monotonic() + 60 * minutes
    with load(busy):
        for number in range(count + 1):
            for side in ("same", "wider"):
                place = reports / f"{side}{number}.json"
                wanted = not place.exists() and (side == "same" or number > 0)
                if wanted and time.monotonic() < until:
                    place.write_text(to_json(report_of(artifacts, side)), encoding="utf-8")
    runs = [compare(place) for place in sorted(folder.glob("busy*"))]
    (folder / "gate_alarms.json").write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    said = "\n\n".join(page(run) for run in runs) + "\n"
    (folder / "gate_alarms.md").write_text(said, encoding="utf-8")
    typer.echo(said, nl=False)


def prepared(folder: Path) -> Path:
    """The two models as ONNX artifacts, made once."""
    place = folder / "artifacts"
    if not all((place / side / Artifact.INDEX).exists() for side in CHANNELS):
        import torch
        from random_decoder import Shape, random_decoder  # loads PyTorch

        from numprune_export.models.families import DECODERS

        for side, channels in CHANNELS.items():
            shape = Shape(channels=channels, **SHAPE)
            model = random_decoder(shape, 1.0, dtype=torch.float32, device="cpu", positions=512)
            decoder = DECODERS["mistral"].decoder(model)
            (place / side).mkdir(parents=True, exist_ok=True)
            OnnxExporter().export(decoder, place / side, OnnxSettings())
    return place


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Processes that do nothing but count."""
    code = "while True: sum(range(10000))"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def report_of(artifacts: Path, side: str) -> Report:
    """Measured in a fresh process, which has no PyTorch in it."""
    command = [sys.executable, __file__, str(artifacts), "--measure", side]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    metrics = metrics_from_json(json.loads(done.stdout.splitlines()[-1]))
    benchmark = {"prefill": TOKENS, "past": TOKENS, "decode_steps": STEPS, "sessions": SESSIONS}
    return Report(
        created=datetime.now(timezone.utc),
        recipe_name="gate alarms",
        summary="",
        metrics=measurements(metrics),
        plan=(),
        recipe={"version": 1, "benchmark": {**benchmark, "samples": SESSIONS * ROUNDS}},
        environment=describe(),
        artifacts={},
    )


def measured(artifacts: Path, side: str) -> dict[str, Any]:
    tokens = np.arange(TOKENS, dtype=np.int64)[None]
    workload = DecoderWorkload(tokens, TOKENS, TOKENS, STEPS)
    open_ = partial(OnnxExporter().open, threads=1, capacity=workload.capacity)
    with ExitStack() as stack:
        opened = [
            stack.enter_context(ReopenedDecoder(partial(open_, Artifact.load(artifacts / name))))
            for name in ("same", side)
        ]
        under = {"device": "cpu", "dtype": "float32", "threads": 1}
        # Without the ideal, which is exact: a wider model would be found without any timing.
        row = LatencyRow(Pair(*opened), under, reopener(opened))
        protocol = Protocol(1, SESSIONS * ROUNDS, SESSIONS)
        return metrics_to_json(measure_pairs({"onnx": row}, workload, protocol).metrics)


def compare(reports: Path) -> dict[str, Any]:
    """All comparisons that the reports allow."""
    read = {path.stem: evidence.read(path)[0] for path in reports.glob("*[0-9].json")}
    itself, wider = [], []
    for number in range(1, len(read)):
        before, same, slow = (
            read.get(f"{stem}") for stem in (f"same{number - 1}", f"same{number}", f"wider{number}")
        )
        if before and same:
            itself.append(judge(same, before, Gate()))
        if before and slow:
            wider.append(judge(slow, before, Gate()))
    slow_reports = [report for name, report in read.items() if name.startswith("wider")]
    away = [share for report in read.values() if (share := taken_away(report)) is not None]
    return {
        "busy_processes": int(reports.name.removeprefix("busy")),
        "clock_over_processor": statistics.median(away),
        "itself": summary(itself),
        "wider": summary(wider),
        "real_slowdown": {phase: slowdown(slow_reports, phase) for phase in ("prefill", "decode")},
        "machine": next(iter(read.values())).environment.model_dump(mode="json"),
    }


def summary(verdicts: list[Verdict]) -> dict[str, Any]:
    names = [finding.name for verdict in verdicts for finding in verdict.failures]
    return {
        "comparisons": len(verdicts),
        "alarms": sum(not verdict.passed for verdict in verdicts),
        "by": {name: names.count(name) for name in sorted(set(names))},
    }


def slowdown(reports: list[evidence.Evidence], phase: str) -> float:
    """Of the wider model by processor time, median over the reports."""
    name = f"latency.onnx.{phase}.cpu_speedup"
    return statistics.median(1 / report.metrics[name].value for report in reports) - 1


def page(run: dict[str, Any]) -> str:
    rows = [
        [
            title,
            str(counts["comparisons"]),
            str(counts["alarms"]),
            ", ".join(
                f"{name.removeprefix('latency.onnx.')} {count}"
                for name, count in counts["by"].items()
            ),
        ]
        for title, counts in (
            ("the model with itself", run["itself"]),
            ("5 % wider", run["wider"]),
        )
    ]
    real = ", ".join(
        f"{phase} {100 * fraction:.1f} %" for phase, fraction in run["real_slowdown"].items()
    )
    return (
        f"{run['busy_processes']} busy processes on {run['machine']['usable_cores']} cores, clock"
        f" {run['clock_over_processor']:.1f}x processor time; the wider model takes longer by"
        f" (processor time): {real}\n\n" + table(["compared", "comparisons", "alarms", "by"], rows)
    )


if __name__ == "__main__":
    typer.run(main)
