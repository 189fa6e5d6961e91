"""The page of `encoder_quality.py`: points found so far, as JSON to go on from and as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import typer

ALLOWED_LOSS = 0.01


@dataclass(frozen=True)
class Point:
    """One budget, score, allocation and repair."""

    keep: float
    score: str
    allocation: str
    repair: str
    values: tuple[float, ...]
    """The metric, one value per calibration draw."""
    change: tuple[float, float, float]
    """Of the mean over draws from the dense model, and its 95 % interval over paired examples."""
    macs: float
    """Fraction kept, mean over draws."""
    heads: tuple[int, ...]
    """Kept per block, in the first draw."""
    neurons: tuple[int, ...]
    loss: tuple[float, ...] = ()
    """The task's, one value per draw, where it has one."""

    @property
    def name(self) -> str:
        return f"{self.score} | {self.allocation} | {self.repair}"

    def line(self, dense: float) -> str:
        change, low, high = (100 * fraction for fraction in self.change)
        lowest, highest = 100 * min(self.values), 100 * max(self.values)
        return (
            f"| {self.keep:g} | {self.name} | {self.macs:.3f} | {' '.join(map(str, self.heads))}"
            f" | {' '.join(map(str, self.neurons))} | {len(self.values)} | {100 * fmean(self.values):.1f}"
            f" | {lowest:.1f} to {highest:.1f} | {change:+.1f} | {low:+.1f} to {high:+.1f}"
            f" | {f'{fmean(self.loss):.3f}' if self.loss else ''} |"
        )

    @property
    def cell(self) -> str:
        spread = 50 * (max(self.values) - min(self.values))
        mean = 100 * fmean(self.values)
        return f"{mean:.1f} ± {spread:.1f}" if len(self.values) > 1 else f"{mean:.1f}"


@dataclass
class Page:
    """Written anew after every point."""

    path: Path
    about: Mapping[str, Any]
    points: dict[str, Point] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, about: Mapping[str, Any]) -> Page:
        """With the points of an earlier run that was the same.

        Raises:
            typer.BadParameter: the earlier run was of something else.
        """
        file, page = path.with_suffix(".json"), cls(path, about)
        if file.exists():
            before = json.loads(file.read_text())
            if before["about"] != dict(about):
                raise typer.BadParameter(f"{file} is of another experiment: {before['about']}")
            for saved in before["points"]:
                shaped: dict[str, Any] = {
                    k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()
                }
                point = Point(**shaped)
                page.points[f"{point.keep:g} {point.name}"] = point
        return page

    def has(self, keep: float, score: str, allocation: str, repair: str, draws: int) -> bool:
        point = self.points.get(f"{keep:g} {score} | {allocation} | {repair}")
        return point is not None and len(point.values) >= draws

    def add(self, point: Point) -> None:
        self.points[f"{point.keep:g} {point.name}"] = point
        content = {
            "about": dict(self.about),
            "points": [asdict(measured) for measured in self.points.values()],
        }
        self.path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
        self.path.write_text(self.text())

    def text(self) -> str:
        about, dense = self.about, float(self.about["dense"])
        changes = "".join(f" --set {change}" for change in about["set"])
        return "\n".join(
            [
                f"`python benchmarks/encoder_quality.py {about['recipe']}{changes}`: {about['metric']} in percent"
                f" of {about['evaluation examples']} held-out examples of {about['mean tokens']} tokens on average,"
                f" measured in PyTorch ({about['dtype']}), dense {100 * dense:.1f}. Each draw is"
                f" {about['calibration examples']} calibration examples. `keep`: fraction of the encoder's"
                " multiply-accumulates. Allocation `search`: the exact search on raw scores; `threshold`: one"
                " limit on scores standardised by site, with the same MACs; `curves`, `tuned`, `rounds`: error"
                " curves, with the weight of attention chosen by divergence, and in two rounds.",
                "",
                "Mean over calibration draws ± half the distance of the highest from the lowest (no ±: one"
                f" draw); last, the smallest keep from which on no more than {100 * ALLOWED_LOSS:g} point is"
                " lost on average:",
                "",
                *self._curves(dense),
                "",
                "Each point: MACs kept, heads and neurons kept per block (first draw), the metric over draws,"
                " the change of its mean from dense in points with its 95 % interval (bootstrap over paired"
                " examples), the task's mean loss.",
                "",
                "| keep | score | allocation | repair | MACs | heads | neurons | draws | mean"
                " | over draws | change | interval | loss |",
                "|---:|---|---|---|---:|---|---|---:|---:|---|---:|---|---:|",
                *(point.line(dense) for point in self._sorted()),
                "",
            ]
        )

    def _sorted(self) -> list[Point]:
        return sorted(self.points.values(), key=lambda point: -point.keep)

    def _curves(self, dense: float) -> list[str]:
        keeps = sorted({point.keep for point in self.points.values()}, reverse=True)
        names = list(dict.fromkeys(point.name for point in self._sorted()))
        lines = [
            f"| score | allocation | repair | {' | '.join(f'{budget:g}' for budget in keeps)} | ≤ 1 point |",
            f"|---|---|---|{'---:|' * (len(keeps) + 1)}",
            f"| dense | | | {' | '.join(f'{100 * dense:.1f}' for _ in keeps)} | |",
        ]
        for name in names:
            row = [self.points.get(f"{keep:g} {name}") for keep in keeps]
            cells = ["" if point is None else point.cell for point in row]
            lines.append(f"| {name} | {' | '.join(cells)} | {_smallest(row)} |")
        return lines


def _smallest(row: list[Point | None]) -> str:
    """The last budget, from the largest down, before one that loses too much."""
    smallest = "-"
    for point in row:
        if point is None or point.change[0] < -ALLOWED_LOSS:
            break
        smallest = f"{point.keep:g}"
    return smallest
