"""Notices about unexpected properties of a run, before it starts and about its result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from transformers import PreTrainedModel

from numprune_export.models.checkpoint.weight_files import read_json
from numprune_export.models.checkpoint.widths import read_section
from numprune_export.models.family import Family, part
from numprune_export.pruning.allocate.threshold import Allocation
from numprune_export.pruning.compensate.bias import Bias
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.recipe import Recipe

_UNEQUAL = (
    "`allocate: uniform` gives every block the same widths, but the saved model {will} a stock"
    " checkpoint, and transformers needs `trust_remote_code=True` for it: {reasons}"
)


def expected(recipe: Recipe, family: Family, model: PreTrainedModel) -> tuple[str, ...]:
    """Notices that follow from the recipe and the skeleton of the dense model."""
    reasons = list(_reasons(recipe, family, model)) if _is_uniform(recipe) else []
    return (_UNEQUAL.format(will="will not be", reasons="; ".join(reasons)),) if reasons else ()


def of_result(
    recipe: Recipe, family: Family, model: PreTrainedModel, folder: Path
) -> tuple[str, ...]:
    """Notices that follow from the saved model.

    Args:
        recipe: Of the run.
        family: Of the dense model.
        model: The skeleton of the dense model.
        folder: The saved model.
    """
    values = read_json(folder / "config.json")
    notices = []
    if _is_uniform(recipe) and read_section(values, folder).layout != "stock":
        reasons = list(_reasons(recipe, family, model)) or [
            "its config class cannot describe its tensors"
        ]
        notices.append(_UNEQUAL.format(will="is not", reasons="; ".join(reasons)))
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    if family.kind == "decoder" and tied != values["tie_word_embeddings"]:
        notices.append(
            f"config.json of the dense model says `tie_word_embeddings: {str(tied).lower()}`, but its"
            " weights have an untied head: that head was used and saved, and config.json of the saved"
            " model says so"
        )
    return tuple(notices)


def _is_uniform(recipe: Recipe) -> bool:
    return isinstance(recipe.allocate, Allocation) and recipe.allocate.method == "uniform"


def _reasons(recipe: Recipe, family: Family, model: PreTrainedModel) -> Iterator[str]:
    repair, blocks = recipe.compensate, family.block_list(model)
    adds = isinstance(repair, Bias) or (isinstance(repair, ClosedForm) and repair.affine)
    bare = {
        site.consumer
        for site in family.sites(model)
        if part(blocks[site.block], site.consumer).bias is None
    }
    if adds and bare:
        layers = " and ".join(f"`{name}`" for name in sorted(bare))
        way = "`compensate.affine: false`" if isinstance(repair, ClosedForm) else "`closed_form`"
        yield f"compensation adds a bias to {layers} that the class does not have; {way} omits it"
    if family.kind == "encoder":
        yield "the config of an encoder cannot express fewer heads of the same size"
    elif recipe.query_heads == "single":
        yield (
            "KV heads may keep different numbers of query heads; `query_heads: grouped` keeps them"
            " equal"
        )
