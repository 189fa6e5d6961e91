"""Prunable sites of a model, their widths and parameters, from its config alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.models.checkpoint.load import skeleton
from numprune_export.models.checkpoint.source import Source, resolve
from numprune_export.models.families import DECODERS, architecture_of
from numprune_export.models.site import Kind, Site
from numprune_export.pruning.rewrite import parameter_count

KINDS: tuple[Kind, ...] = ("attention", "mlp")
DECODER_UNITS = {"attention": "KV head with its query heads", "mlp": "channel"}
ENCODER_UNITS = {"attention": "head", "mlp": "neuron"}


@dataclass(frozen=True)
class Inspection:
    """The prunable structure of a model."""

    source: Source
    sites: tuple[Site, ...]
    parameters: int
    """Parameters of the whole model; tied ones count once."""

    blocks: int

    @property
    def architecture(self) -> str:
        """Class name in transformers."""
        return architecture_of(self.source.family, self.source.architectures)

    @property
    def emptied(self) -> list[tuple[int, Kind]]:
        """Sublayers that an earlier pruning has removed completely."""
        here = {(site.block, site.kind) for site in self.sites}
        return [
            (block, kind)
            for kind in KINDS
            for block in range(self.blocks)
            if (block, kind) not in here
        ]

    @property
    def prunable(self) -> int:
        return sum(site.parameters for site in self.sites)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.source.reference,
            "architecture": self.architecture,
            "parameters": self.parameters,
            "prunable_parameters": self.prunable,
            "sites": [
                {"name": site.name, "units": site.units, "parameters_per_unit": site.unit_cost}
                for site in self.sites
            ],
            "emptied": [f"layers.{block}.{kind}" for block, kind in self.emptied],
        }


def look(reference: str, *, revision: str | None, search: Sequence[Path]) -> Inspection:
    """Resolve a model and read its shapes; no weights are read.

    Raises:
        NumpruneError: as `checkpoint.source.resolve` and `checkpoint.load.skeleton`.
    """
    source = resolve(reference, revision=revision, search=search)
    model = skeleton(source)
    family = source.family
    blocks = len(family.block_list(model))
    return Inspection(source, family.sites(model), parameter_count(model), blocks)


def render(inspection: Inspection) -> str:
    """Text table with one line per run of consecutive equal sites."""
    share = inspection.prunable / inspection.parameters
    lines = [
        f"{inspection.source.reference}: {inspection.architecture}",
        f"{inspection.parameters / 1e6:.1f} M parameters,"
        f" {inspection.prunable / 1e6:.1f} M prunable ({share:.0%})",
        "",
        f"{'layers':12} {'site':10} {'units':>6} {'parameters/unit':>16}  unit",
    ]
    decoder = inspection.source.model_type in DECODERS
    meaning = DECODER_UNITS if decoder else ENCODER_UNITS
    for first, last, site in _runs(inspection.sites):
        layers = f"{first}" if first == last else f"{first}-{last}"
        lines.append(
            f"{layers:12} {site.kind:10} {site.units:6} {site.unit_cost:16,}  {meaning[site.kind]}"
        )
    lines += [
        f"{block:<12} {kind:10} {0:6} {0:16}  none left" for block, kind in inspection.emptied
    ]
    return "\n".join(lines)


def _runs(sites: Sequence[Site]) -> list[tuple[int, int, Site]]:
    """Consecutive blocks with equal sites of one kind, as (first, last, site)."""
    runs: list[tuple[int, int, Site]] = []
    for kind in KINDS:
        for site in (site for site in sites if site.kind == kind):
            same = runs and runs[-1][2].kind == kind and runs[-1][1] == site.block - 1
            if same and (runs[-1][2].units, runs[-1][2].unit_cost) == (site.units, site.unit_cost):
                runs[-1] = (runs[-1][0], site.block, runs[-1][2])
            else:
                runs.append((site.block, site.block, site))
    return runs
