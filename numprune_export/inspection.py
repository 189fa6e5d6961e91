"""What of a model can go: its sites, widths and parameters, from the shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.checkpoint.load import skeleton
from numprune_export.checkpoint.source import Source, resolve
from numprune_export.plan import Site
from numprune_export.rewrite import parameter_count


@dataclass(frozen=True)
class Inspection:
    """A model before anything is done to it."""

    source: Source
    sites: tuple[Site, ...]
    parameters: int
    """Of the whole model, tied ones once."""

    @property
    def prunable(self) -> int:
        return sum(site.units * site.unit_cost for site in self.sites)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.source.reference,
            "architecture": self.source.family.architecture,
            "parameters": self.parameters,
            "prunable_parameters": self.prunable,
            "sites": [
                {"name": one.name, "units": one.units, "parameters_per_unit": one.unit_cost}
                for one in self.sites
            ],
        }


def look(reference: str, *, revision: str | None, search: Sequence[Path]) -> Inspection:
    """Resolve a model and read its shapes; no weights are read.

    Raises:
        NumpruneError: as `checkpoint.source.resolve` and `checkpoint.load.skeleton`.
    """
    source = resolve(reference, revision=revision, search=search)
    model = skeleton(source)
    return Inspection(source, source.family.sites(model), parameter_count(model))


def render(found: Inspection) -> str:
    """A table for people: one line per run of equal blocks."""
    share = found.prunable / found.parameters
    lines = [
        f"{found.source.reference}: {found.source.family.architecture}",
        f"{found.parameters / 1e6:.1f} M parameters, {found.prunable / 1e6:.1f} M prunable ({share:.0%})",
        "",
        f"{'layers':12} {'site':10} {'units':>6} {'parameters/unit':>16}  unit",
    ]
    meaning = {"attention": "KV head with its query heads", "mlp": "channel"}
    for first, last, site in _runs(found.sites):
        layers = f"{first}" if first == last else f"{first}-{last}"
        lines.append(
            f"{layers:12} {site.kind:10} {site.units:6} {site.unit_cost:16,}  {meaning[site.kind]}"
        )
    return "\n".join(lines)


def _runs(sites: Sequence[Site]) -> list[tuple[int, int, Site]]:
    """Neighbouring blocks whose site of one kind is equal, as (first, last, site)."""
    runs: list[tuple[int, int, Site]] = []
    for kind in ("attention", "mlp"):
        for site in (one for one in sites if one.kind == kind):
            same = runs and runs[-1][2].kind == kind
            if same and (runs[-1][2].units, runs[-1][2].unit_cost) == (site.units, site.unit_cost):
                runs[-1] = (runs[-1][0], site.block, runs[-1][2])
            else:
                runs.append((site.block, site.block, site))
    return runs
