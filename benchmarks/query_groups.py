"""What KV heads with different numbers of query heads cost in latency, at equal parameters: one table.

    python benchmarks/query_groups.py --rounds 60

Decoders with random weights, run by the target `onnx` on one thread: dense, with uneven groups, and
with as many parameters left in equal groups. One query head (its rows of q, columns of o) has as
many parameters as one KV head. Contenders take turns, and each ratio is of its own round. Processor
time is what other work on the machine disturbs least.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
import torch
import typer
from numpy.typing import NDArray

from numprune_export.export.decoder import Decoder, DecoderLayer, Projection
from numprune_export.measure.latency.statistics import ratio_of_medians
from numprune_exporters.onnx import open as onnx_open
from numprune_exporters.onnx.session import open_session
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings

Groups = tuple[int, ...]
Times = NDArray[np.float64]
"""(rounds, 2): milliseconds by the clock, and of the processor."""

VOCABULARY = 512
POSITIONS = 1056


@dataclass(frozen=True)
class Shape:
    """`layers` blocks with the same groups; `groups` of every contender, the dense one first."""

    name: str
    hidden: int
    head_dim: int
    channels: int
    layers: int
    groups: dict[str, Groups]


SMOLLM2_GROUPS: dict[str, Groups] = {
    "dense": (3, 3, 3),
    "9 of 12, uneven": (3, 2, 1),
    "9 of 12, equal groups": (2, 2, 2),
    "8 of 12, uneven": (2, 2, 1),
    "8 of 12, equal groups": (3, 3),
}
LLAMA_GROUPS: dict[str, Groups] = {
    "dense": (4,) * 8,
    "30 of 40, uneven": (4, 4, 4, 3, 3, 2, 1, 1),
    "30 of 40, equal groups": (4,) * 6,
}
SHAPES = (
    Shape("SmolLM2, attention alone", 576, 64, 16, 8, SMOLLM2_GROUPS),
    Shape("SmolLM2, with its MLP", 576, 64, 1536, 8, SMOLLM2_GROUPS),
    Shape("LLaMA-like (32 query heads, 8 KV heads of 128), attention alone", 4096, 128, 16, 1, LLAMA_GROUPS),
)  # fmt: skip


def decoder(shape: Shape, groups: Groups) -> Decoder:
    generator = torch.Generator().manual_seed(0)
    hidden, queries, keys = shape.hidden, sum(groups) * shape.head_dim, len(groups) * shape.head_dim

    def matrix(rows: int, columns: int) -> Projection:
        return Projection(torch.empty(rows, columns).uniform_(-0.02, 0.02, generator=generator))

    def layer() -> DecoderLayer:
        return DecoderLayer(
            input_norm=torch.ones(hidden),
            query=matrix(queries, hidden),
            key=matrix(keys, hidden),
            value=matrix(keys, hidden),
            output=matrix(hidden, queries),
            query_norm=None,
            key_norm=None,
            post_attention_norm=torch.ones(hidden),
            gate=matrix(shape.channels, hidden),
            up=matrix(shape.channels, hidden),
            down=matrix(hidden, shape.channels),
            groups=groups,
            sliding_window=None,
        )

    head = matrix(VOCABULARY, hidden)
    return Decoder(
        name="random",
        embedding=head.weight,
        layers=tuple(layer() for _ in range(shape.layers)),
        final_norm=torch.ones(hidden),
        head=head,
        head_dim=shape.head_dim,
        norm_eps=1e-5,
        activation="silu",
        inverse_frequencies=10000 ** -(torch.arange(0, shape.head_dim, 2) / shape.head_dim),
        rotary_scale=1.0,
        max_positions=POSITIONS,
    )


Phase = Callable[[], object]


def phases(decoder: Decoder, folder: Path) -> dict[str, Phase]:
    """What is timed, on one session: a prompt of 128, one more token after 128 and after 1024."""
    folder.mkdir()
    session = open_session(OnnxExporter().export(decoder, folder, OnnxSettings()), threads=1)
    steps = onnx_open.steps(session, capacity=POSITIONS)
    random = np.random.default_rng(0)
    prompt = random.integers(0, VOCABULARY, (1, 1024))
    steps.prefill(prompt, np.array([1024]), np.array([[1023]]))  # fills the cache once

    def one_after(length: int) -> Phase:
        # The same slot every time: the cache is as full in the last round as in the first.
        return lambda: steps.decode(prompt[:, 0], np.array([length + 1]))

    short, last = np.ascontiguousarray(prompt[:, :128]), np.array([[127]])
    return {
        "decode after 1024": one_after(1024),
        "decode after 128": one_after(128),
        "prefill 128": lambda: steps.prefill(short, np.array([128]), last),
    }


def timed(work: Phase, repeats: int) -> tuple[float, float]:
    """Milliseconds of one call, by the clock and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        work()
    elapsed = time.perf_counter() - wall, time.process_time() - processor
    return elapsed[0] / repeats * 1e3, elapsed[1] / repeats * 1e3


def interleaved(contenders: dict[str, Phase], rounds: int) -> dict[str, Times]:
    for work in contenders.values():
        work()
    # Timed in pieces of some ms: the processor's clock is coarse beside one short call.
    pieces = {name: max(1, int(10 / timed(work, 3)[0])) for name, work in contenders.items()}
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            rows[name].append(timed(contenders[name], pieces[name]))
    return {name: np.array(row) for name, row in rows.items()}


def lines(groups: dict[str, Groups], phase: str, measured: dict[str, Times]) -> list[str]:
    dense, *_ = measured.values()
    rows = []
    for name, times in measured.items():
        speed = ratio_of_medians(dense[:, 1], times[:, 1])
        wall, processor = np.median(times, axis=0)
        shown = ",".join(map(str, groups[name]))
        rows.append(
            f"| {phase} | {name} | {shown} | {processor:.3f} | {wall:.3f} |"
            f" {speed.value:.3f} [{speed.low:.3f}, {speed.high:.3f}] |"
        )
    return rows


def table(shape: Shape, rounds: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        opened = {
            name: phases(decoder(shape, groups), Path(folder) / str(number))
            for number, (name, groups) in enumerate(shape.groups.items())
        }
        rows = [
            line
            for phase in next(iter(opened.values()))
            for line in lines(
                shape.groups,
                phase,
                interleaved({name: by_phase[phase] for name, by_phase in opened.items()}, rounds),
            )
        ]
    return [
        f"## {shape.name}: {shape.layers} layer(s), {shape.hidden} wide",
        "",
        "| phase | left | groups | CPU ms | wall ms | speed-up over dense, of CPU time (95 %) |",
        "|---|---|---|---:|---:|---:|",
        *rows,
        "",
    ]


def main(
    out: Annotated[Path | None, typer.Option(help="file to write; stdout without")] = None,
    rounds: int = 40,
) -> None:
    conditions = (
        f"ONNX Runtime {onnxruntime.__version__}, CPU, fp32, 1 thread, batch 1, {rounds} interleaved"
        f" rounds, load average {os.getloadavg()[0]:.1f}"
    )
    text = "\n".join([conditions, "", *(line for shape in SHAPES for line in table(shape, rounds))])
    if out is None:
        typer.echo(text)
    else:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
