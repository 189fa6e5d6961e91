"""The rows of benchmarks/quality.py: names, and what each changes in the recipe."""

from itertools import product
from typing import Any

Rows = dict[str, dict[str, Any]]

_REFIT = {"method": "closed_form", "order": "one_shot"}
_UNIFORM = {"method": "uniform", "align_to": 1}
METHODS: Rows = {
    "random": {"score": "random", "allocate": _UNIFORM, "compensate": "none"},
    "magnitude": {"score": "magnitude", "allocate": _UNIFORM, "compensate": "none"},
    "wanda-sp": {
        "score": "wanda", "allocate": _UNIFORM, "compensate": "none", "query_heads": "single",
    },
    "flap": {"score": "flap", "compensate": "bias"},
    "stat": {"score": "stat", "allocate": {"standardise": False}, "compensate": _REFIT},
    "osscar-like": {
        "score": {"method": "fisher_obs", "metric": "identity", "centred": False},
        "allocate": _UNIFORM, "compensate": _REFIT, "query_heads": "single",
    },
    "numerical": {"score": "numerical", "compensate": _REFIT},
    "paper-numerical": {"method": "paper-numerical"},
    "fast": {"method": "fast"},
    "best": {"method": "best"},
    "best, no text of its own": {"method": "best", "generated_text": 0},
}  # fmt: skip

_VARIANTS: Rows = {
    "KV heads whole": {"query_heads": "grouped"},
    "two rounds": {"rounds": 2},
    "no text of its own": {"generated_text": 0},
    "one text in a window": {"generated_text": {"per_window": 1}},
    "half of its own text asked for": {"generated_text": {"asked": 0.5}},
    "gradients on the given text alone": {"generated_text": {"for_gradients": 0.0}},
    "plans tried out on the given text": {"generated_text": {"for_trials": False}},
    "gradients on all of its own text": {"generated_text": {"for_gradients": 1.0}},
    "attention counts 1x": {"allocate": {"method": "curves", "attention": 1.0}},
    "no Fisher (plain OBS)": {"score": {"metric": "identity"}},
    "central moments and a bias": {"score": {"centred": True}, "compensate": {"affine": True}},
    "products of fp32": {"matmul_precision": "medium"},
    "one-shot refit": {"compensate": {"order": "one_shot", "producers": None}},
    "consumers fitted to half of the tokens": {"compensate": {"token_stride": 2}},
    "consumers alone refitted": {"compensate": {"producers": None}},
    "bias only": {"compensate": "bias"},
    "no refit": {"compensate": "none"},
    "64 gradient sequences": {"score": {"sequences": 64}},
    "curves as they are": {"allocate": {"method": "curves", "convex": False}},
    "one channel a step": {"score": {"step": 1}},
    "scored on all tokens": {"score": {"token_stride": 1}},
    "scores damped by 0.01": {"score": {"damping": 0.01}},
    "spared consumers fitted to all tokens": {"compensate": {"producers": {"spared_every": 1}}},
}
ABLATION: Rows = {"best": METHODS["best"]} | {
    f"best, {name}": METHODS["best"] | changes for name, changes in _VARIANTS.items()
}

SCORES: Rows = {
    f"{score}, {'standardised' if standardise else 'raw'}": {
        "score": score,
        "allocate": {"standardise": standardise},
        "compensate": _REFIT,
    }
    for score, standardise in product(
        ("numerical", "wanda", "flap", "magnitude", "random"), (True, False)
    )
}

REPAIRS: Rows = {
    "numerical, refit": {"score": "numerical", "compensate": _REFIT},
    "flap, refit": {"score": "flap", "compensate": _REFIT},
    "numerical, uniform": {"score": "numerical", "allocate": _UNIFORM, "compensate": _REFIT},
    "flap, uniform": {"score": "flap", "allocate": _UNIFORM, "compensate": _REFIT},
    "numerical, bias": {"score": "numerical", "compensate": "bias"},
    "flap, bias": {"score": "flap", "compensate": "bias"},
    "numerical, none": {"score": "numerical", "compensate": "none"},
    "flap, none": {"score": "flap", "compensate": "none"},
    "numerical, sequential": {"score": "numerical", "compensate": "closed_form"},
    "wanda, sequential": {"score": "wanda", "compensate": "closed_form"},
    "flap, sequential": {"score": "flap", "compensate": "closed_form"},
}

SUITES = {"methods": METHODS, "ablation": ABLATION, "scores": SCORES, "repairs": REPAIRS}
