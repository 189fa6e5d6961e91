"""What `gpu_check.py` found, as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpu_parts import Outcome

PAPER_SPEEDUP = 1.74
PAPER_MEMORY = 0.50
"""25.9 to 45.0 tokens/s and 12.5 to 6.2 GB: LLaMA-7B at keep 0.5 on an A100, arXiv:2412.12441."""


def page(verdict: str, machine: Mapping[str, Any], outcomes: Sequence[Outcome]) -> str:
    parts = ["# GPU check", f"**{verdict}**", _machine(machine), _summary(outcomes)]
    parts += [section for section in map(_pruning, outcomes) if section]
    parts += [section for section in map(_tests, outcomes) if section]
    rows = [outcome for outcome in outcomes if outcome.details.get("cases")]
    if rows:
        parts += ["## Speed", _speed(rows), _memory(rows), *_left_out(rows)]
    parts += [_output(outcome) for outcome in outcomes if outcome.output]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in lines)


def _machine(machine: Mapping[str, Any]) -> str:
    if not machine:
        return ""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [f"- Python {machine['python']}, {machine['machine']}; {packages}"]
    if machine["gpu"]:
        gpu = machine["gpu"]
        lines.append(
            f"- {gpu['name']}, compute capability {gpu['compute_capability']}, driver"
            f" {gpu['driver_version']} (CUDA up to {gpu['cuda_version']})"
        )
    cuda = machine["torch_cuda"]
    said = f"CUDA {cuda['runtime']} on {cuda['device']}" if cuda else "no CUDA device"
    lines.append(f"- PyTorch: {said}")
    for name, target in machine["targets"].items():
        state = target["detail"] if target["ready"] else f"missing: {target['detail']}"
        if target["ready"] and target["cannot_run"]:
            state = f"builds only: {target['cannot_run']}"
        lines.append(f"- target `{name}`: {state}")
    return "\n".join(lines)


def _summary(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [outcome.name, outcome.status, f"{outcome.seconds:.0f} s", outcome.reason]
        for outcome in outcomes
    ]
    return table(["part", "outcome", "time", "why"], rows)


def _pruning(outcome: Outcome) -> str:
    """Steps over a few streamed blocks."""
    steps = outcome.details.get("steps")
    if not steps:
        return ""
    header = ["step", "seconds", "of 32 blocks", "to reach", "device memory", "host, anonymous"]
    rows = [
        [
            row["step"],
            f"{row['seconds']:.1f} s",
            _or_dash(row["of_model_s"], "s"),
            _or_dash(row["limit_s"], "s"),
            _or_dash(row["device_GB"], "GB"),
            _or_dash(row["host_anonymous_GB"], "GB"),
        ]
        for row in steps
    ]
    note = "Random weights in bfloat16, blocks read while they are in use. To reach: on an H200."
    return f"## Pruning, block by block\n\n{table(header, rows)}\n\n{note}"


def _or_dash(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.1f} {unit}"


def _tests(outcome: Outcome) -> str:
    """The marked tests: what failed by name, the others as numbers; the JSON file names them all."""
    counted = outcome.details
    if "tests" not in counted:
        return ""
    lines = [f"## Tests\n\n{counted['passed']} of {counted['tests']} passed."]
    lines += [f"- failed: {name}: {why}" for name, why in counted["failed"].items()]
    groups = Counter((name.partition("::")[0], why) for name, why in counted["skipped"].items())
    lines += [f"- skipped, {count} of {module}: {why}" for (module, why), count in groups.items()]
    return "\n".join(lines)


def _speed(rows: Sequence[Outcome]) -> str:
    header = [
        "row", "keep", "batch", "tokens", "phase", "dense", "pruned", "speed-up", "95 %", "ideal",
        "of ideal", "tokens/s",
    ]  # fmt: skip
    lines = [line for outcome in rows for line in _cases(outcome.details)]
    note = (
        "Random weights. `tokens` is the prompt's length for prefill and the past for decode; times"
        " are medians, per prompt and per token. The paper's own at keep 0.5, on another GPU:"
        f" {PAPER_SPEEDUP}x tokens/s."
    )
    return f"{table(header, lines)}\n\n{note}"


def _cases(details: Mapping[str, Any]) -> Iterator[list[str]]:
    for case in details["cases"]:
        for phase in ("prefill", "decode"):
            prefix = f"latency.{details['row']}.{phase}."
            of = {
                name.removeprefix(prefix): metric
                for name, metric in case["metrics"].items()
                if name.startswith(prefix)
            }
            ratio = of["speedup"]
            yield [
                f"{details['row']} ({details['device']}, {details['dtype']})",
                f"{case['keep']:g}",
                str(case["batch"]),
                str(case["tokens"]),
                phase,
                f"{of['dense.p50_ms']['value']:.2f} ms",
                f"{of['pruned.p50_ms']['value']:.2f} ms",
                f"{ratio['value']:.2f}x",
                f"{ratio['low']:.2f} to {ratio['high']:.2f}",
                f"{of['ideal']['value']:.2f}x",
                f"{of['of_ideal']['value']:.2f}",
                f"{of['pruned.tokens_per_s']['value']:.1f}",
            ]


def _memory(rows: Sequence[Outcome]) -> str:
    lines = []
    for outcome in rows:
        for name, metric in outcome.details["memory"].items():
            _, row, rest = name.split(".", 2)
            variant, _, kind = rest.rpartition(".")
            dense = outcome.details["memory"].get(f"memory.{row}.dense.{kind}")
            share = f"{metric['value'] / dense['value']:.2f}" if dense and dense["value"] else "-"
            lines.append([row, variant, kind, f"{metric['value'] / 1e9:.2f} GB", share])
    if not lines:
        return ""
    note = f"The paper's own at keep 0.5: {PAPER_MEMORY:.2f} of dense."
    return f"{table(['row', 'model', 'what', 'size', 'of dense'], lines)}\n\n{note}"


def _left_out(rows: Sequence[Outcome]) -> Iterator[str]:
    """Cases that were not measured, and doubts about those that were."""
    for outcome in rows:
        said = [f"not measured, {reason}" for reason in outcome.details["skipped"]]
        said += [warning for case in outcome.details["cases"] for warning in case["warnings"]]
        if said:
            yield "\n".join(f"- {outcome.details['row']}: {note}" for note in dict.fromkeys(said))


def _output(outcome: Outcome) -> str:
    text = "\n".join(outcome.output)
    return f"## Output of {outcome.name}\n\n```text\n{text}\n```"
