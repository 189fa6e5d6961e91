"""Presets: named compositions of score, allocation, compensation and rounds.

Measured effect of each part: docs/results/ablations.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

Preset = Literal["best", "best+recover", "fast", "paper-numerical", "paper-fisher"]

FILLED = ("query_heads", "generated_text", "score", "allocate", "compensate", "recover", "rounds")
"""Keys of a recipe that a preset can fill in."""


def composition(name: str, *, labelled: bool) -> dict[str, Any]:
    """Sections of a preset; empty for an unknown name.

    Args:
        name: Name of the preset.
        labelled: Whether the model has a task head and is evaluated on labelled examples.
    """
    if labelled and name in ("best", "best+recover"):
        return _best_of_encoders() | ({} if name == "best" else _recovery())
    return _COMPOSITIONS[name]() if name in _COMPOSITIONS else {}


def merged(content: Mapping[str, Any], *, labelled: bool) -> dict[str, Any]:
    """A recipe's content merged over its preset. A section without `method` changes single
    settings of the preset's section."""
    filled = composition(str(content.get("method")), labelled=labelled)
    for key, value in content.items():
        base = filled.get(key)
        if isinstance(base, dict) and isinstance(value, dict) and "method" not in value:
            filled[key] = {**base, **value}
        else:
            filled[key] = value
    return filled


def _best() -> dict[str, Any]:
    """Without bias, which layers may lack, and with one round: neither improved quality."""
    return {
        "query_heads": "single",
        "score": {"method": "fisher_obs", "centred": False, "token_stride": 2},
        "allocate": {"method": "curves", "attention": (0.75, 1.0, 1.5)},
        "compensate": {"method": "closed_form", "producers": {}},
        "generated_text": {"sequences": 32, "per_window": 2, "for_gradients": 0.25},
    }


def _recovery() -> dict[str, Any]:
    return {"recover": {}}


def _best_of_encoders() -> dict[str, Any]:
    """Attention weight 1 and one-shot order: larger weights and sequential order did not improve
    quality. `affine`, because the layers have biases."""
    return {
        "score": {"method": "fisher_obs"},
        "allocate": {"method": "curves", "cost": "macs", "attention": 1.0},
        "compensate": {"method": "closed_form", "affine": True, "order": "one_shot"},
    }


def _fast() -> dict[str, Any]:
    return {
        "score": {"method": "wanda"},
        "allocate": {"method": "global"},
        "compensate": {"method": "closed_form", "affine": True, "order": "one_shot"},
    }


def _paper_numerical() -> dict[str, Any]:
    return {
        "score": {"method": "numerical"},
        "allocate": {"method": "global", "standardise": False},
        "compensate": {"method": "closed_form", "order": "sequential"},
    }


def _paper_fisher() -> dict[str, Any]:
    return {
        "score": {"method": "fisher"},
        "allocate": {"method": "search"},
        "compensate": {"method": "scalar"},
    }


_COMPOSITIONS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "best": _best,
    "best+recover": lambda: _best() | _recovery(),
    "fast": _fast,
    "paper-numerical": _paper_numerical,
    "paper-fisher": _paper_fisher,
}
