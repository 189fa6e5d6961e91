"""Check whether two reports are comparable, and list all differences that prevent it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numprune_export.gate.evidence import Evidence
from numprune_export.measure.environment import Environment

Side = Literal["model", "texts", "protocol", "timing", "machine", "note"]
"""`protocol`: settings of the parity check; `timing`: settings of the benchmark. An option can
overrule `protocol`, `timing` and `machine`, but not `model` and `texts`. A `note` never prevents
comparing."""

_OWN = "numprune-export"
_UNTIMED = ("seed",)


@dataclass(frozen=True)
class Difference:
    """One property in which two reports differ."""

    side: Side
    what: str
    baseline: str
    report: str

    def __str__(self) -> str:
        return f"{self.what}: {self.baseline} in the baseline, {self.report} in the report"


def differences(baseline: Evidence, report: Evidence) -> tuple[Difference, ...]:
    """All differences: model first, then texts, protocol, machine, notes."""
    return (
        *_model(baseline, report),
        *_texts(baseline, report),
        *_protocol(baseline, report),
        *_machine(baseline.environment, report.environment),
        *_notes(baseline, report),
    )


def _model(baseline: Evidence, report: Evidence) -> Iterator[Difference]:
    if baseline.dense_sha256 is not None and report.dense_sha256 is not None:
        if baseline.dense_sha256 != report.dense_sha256:
            digests = (f"{digest[:12]}…" for digest in (baseline.dense_sha256, report.dense_sha256))
            yield Difference("model", "dense model (sha256)", *digests)
    else:
        for key in ("source", "revision"):
            yield from _differ("model", f"model.{key}", *_pick(baseline, report, "model", key))
        for what in ("parameters", "bytes"):
            name = f"size.{what}.dense"
            values = [
                evidence.metrics[name].value
                for evidence in (baseline, report)
                if name in evidence.metrics
            ]
            if len(values) == 2:
                yield from _differ("model", name, *values)
        yield Difference(
            "note",
            "dense model (sha256)",
            _quoted(baseline.dense_sha256),
            _quoted(report.dense_sha256),
        )
    yield from _differ("model", "model.dtype", *_pick(baseline, report, "model", "dtype"))


def _texts(baseline: Evidence, report: Evidence) -> Iterator[Difference]:
    if baseline.evaluation_sha256 is not None and report.evaluation_sha256 is not None:
        if baseline.evaluation_sha256 != report.evaluation_sha256:
            digests = (
                f"{digest[:12]}…"
                for digest in (baseline.evaluation_sha256, report.evaluation_sha256)
            )
            yield Difference("texts", "evaluation examples (sha256)", *digests)
        return
    yield from _section("texts", baseline, report, "evaluation")
    yield Difference(
        "note",
        "evaluation examples (sha256)",
        _quoted(baseline.evaluation_sha256),
        _quoted(report.evaluation_sha256),
    )


def _protocol(baseline: Evidence, report: Evidence) -> Iterator[Difference]:
    yield from _section("timing", baseline, report, "benchmark", but=_UNTIMED)
    yield from _section("protocol", baseline, report, "parity", but=("bisect",))


def _machine(baseline: Environment, report: Environment) -> Iterator[Difference]:
    for key in ("machine", "cpu", "usable_cores"):
        yield from _differ("machine", key, getattr(baseline, key), getattr(report, key))
    yield from _differ("machine", "GPUs", len(baseline.gpus), len(report.gpus))
    for index, (gpu, other_gpu) in enumerate(zip(baseline.gpus, report.gpus, strict=False)):
        for key in type(gpu).model_fields:
            what = f"GPU {index} {key}"
            yield from _differ("machine", what, getattr(gpu, key), getattr(other_gpu, key))
    for name in sorted({*baseline.packages, *report.packages}):
        # The gate watches this package, so a new version of it must stay comparable.
        side: Side = "note" if name == _OWN else "machine"
        versions = (baseline.packages.get(name), report.packages.get(name))
        yield from _differ(side, f"package {name}", *versions)


def _notes(baseline: Evidence, report: Evidence) -> Iterator[Difference]:
    yield from _differ("note", "recipe name", baseline.recipe_name, report.recipe_name)
    compared = ("benchmark", "parity", "evaluation", "model", "gate")
    for key in sorted({*baseline.recipe, *report.recipe} - {*compared}):
        yield from _differ(
            "note", f"recipe {key}", baseline.recipe.get(key), report.recipe.get(key)
        )
    for key in ("system", "python", "threads"):
        yield from _differ(
            "note", key, getattr(baseline.environment, key), getattr(report.environment, key)
        )


def _section(
    side: Side, baseline: Evidence, report: Evidence, key: str, but: tuple[str, ...] = ()
) -> Iterator[Difference]:
    """Compare a section of the recipe key by key, except the keys in `but`."""
    first, second = (_mapping(evidence.recipe.get(key)) for evidence in (baseline, report))
    for name in sorted({*first, *second} - {*but}):
        yield from _differ(side, f"{key}.{name}", first.get(name), second.get(name))


def _pick(baseline: Evidence, report: Evidence, section: str, key: str) -> tuple[Any, Any]:
    first, second = (
        _mapping(evidence.recipe.get(section)).get(key) for evidence in (baseline, report)
    )
    return first, second


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _differ(side: Side, what: str, baseline: Any, report: Any) -> Iterator[Difference]:
    if baseline != report:
        yield Difference(side, what, _quoted(baseline), _quoted(report))


def _quoted(value: Any) -> str:
    return "nothing" if value is None else f"`{value}`"
