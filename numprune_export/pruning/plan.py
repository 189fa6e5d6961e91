"""The pruning plan. Plain data: no model, no file, no device.

    site   a prunable width in one block: producers -> (units wide) -> consumer
    unit   the smallest part that can be removed: an MLP channel, a query head, or a KV head with
    all of
           its query heads
    plan   the units kept at each site

`keep` is always the fraction that stays, never the fraction removed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter, ValidationError

from numprune_export.core.errors import InputError
from numprune_export.models.site import Site

_SITE = TypeAdapter(Site)


@dataclass(frozen=True)
class Plan:
    """The kept units, as sorted indices per site name; at least one unless the site may be
    empty."""

    sites: tuple[Site, ...]
    kept: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        for site in self.sites:
            problem = _problem(site, self.kept[site.name])
            assert problem is None, problem

    @property
    def prunable_parameters(self) -> int:
        """Parameters of all units, kept or not."""
        return sum(site.parameters for site in self.sites)

    @property
    def kept_parameters(self) -> int:
        return sum(site.cost(self.kept[site.name]) for site in self.sites)

    @property
    def keep(self) -> float:
        """Fraction of the prunable parameters that stays."""
        return self.kept_parameters / self.prunable_parameters

    @property
    def uniform(self) -> bool:
        """True if every block keeps the same number of units at each kind of site."""
        widths = {(site.kind, len(self.kept[site.name])) for site in self.sites}
        return len(widths) == len({site.kind for site in self.sites})

    def refined(self, further: Plan) -> Plan:
        """This plan combined with a further plan for the model that it leaves."""
        kept = {}
        for site in self.sites:
            layout = site.layout(self.kept[site.name])
            stays = further.kept.get(site.name, ())
            kept[site.name] = tuple(sorted(layout[unit] for unit in stays))
        return Plan(self.sites, kept)

    def removed(self, site: Site) -> tuple[int, ...]:
        kept = set(self.kept[site.name])
        return tuple(unit for unit in range(site.units) if unit not in kept)

    def to_json(self) -> dict[str, Any]:
        return {
            "keep": self.keep,
            "prunable_parameters": self.prunable_parameters,
            "kept_parameters": self.kept_parameters,
            "uniform": self.uniform,
            "sites": [
                {**asdict(site), "name": site.name, "kept": list(self.kept[site.name])}
                for site in self.sites
            ],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Plan:
        """Read the result of `to_json`, possibly edited; totals are recomputed.

        Raises:
            InputError: the content is not a plan, or a site keeps invalid units.
        """
        try:
            rows = [(_site(row), tuple(row["kept"])) for row in content["sites"]]
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(map(str, first["loc"])) or "a site"
            raise _unusable(f"`{at}`: {first['msg'].lower()}") from None
        except (KeyError, TypeError) as error:
            raise _unusable(f"{type(error).__name__}: {error}") from error
        kept = {site.name: units for site, units in rows}
        if not rows or len(kept) < len(rows):
            raise _unusable("a site is listed twice" if rows else "it lists no sites")
        for site, units in rows:
            whole = all(type(unit) is int for unit in units)
            problem = (
                _problem(site, units)
                if whole
                else f"`{site.name}` keeps a unit that is not an integer"
            )
            if problem is not None:
                raise _unusable(problem)
        return cls(tuple(site for site, _ in rows), kept)


def _site(row: Mapping[str, Any]) -> Site:
    # Plans of older versions have no such fields.
    values = {"may_be_empty": False, "groups": (), "shared_cost": 0, **row}
    site = _SITE.validate_json(json.dumps(values), strict=True)
    if min(site.block, site.units, site.consumer_width, site.unit_cost, *site.groups, 0) < 0:
        raise TypeError(f"`{site.name}` has a size below 0")
    return site


def _problem(site: Site, kept: Sequence[int]) -> str | None:
    """Why a site cannot keep these units, or None."""
    if not kept and not site.may_be_empty:
        return f"`{site.name}` keeps no unit, but its block needs at least one"
    if not all(0 <= unit < site.units for unit in kept):
        return f"`{site.name}` keeps a unit outside 0 to {site.units - 1}"
    if any(second <= first for first, second in pairwise(kept)):
        return f"the kept units of `{site.name}` are not strictly rising"
    return None


def _unusable(problem: str) -> InputError:
    return InputError(
        f"invalid plan: {problem}",
        hint="`kept` lists strictly rising numbers below `units`; it may be empty only where"
        " `may_be_empty`; delete the plan's folder to recompute it",
    )
