"""Supported architectures: a table of family declarations, one file each."""

import difflib
from collections.abc import Sequence

from numprune_export.core.errors import UnsupportedModelError
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.models.families import bert, distilbert, llama, mistral, qwen2, qwen3, roberta
from numprune_export.models.family import Family

DECODERS: dict[str, RotaryDecoder] = {
    module.FAMILY.model_type: module.FAMILY for module in (llama, mistral, qwen2, qwen3)
}
ENCODERS: dict[str, BidirectionalEncoder] = {
    module.FAMILY.model_type: module.FAMILY for module in (bert, distilbert, roberta)
}
FAMILIES: dict[str, Family] = {**DECODERS, **ENCODERS}


def family_of(model_type: str, architectures: Sequence[str] | None) -> Family:
    """The family of a config's `model_type` and `architectures`; None: these are not checked.

    Raises:
        UnsupportedModelError: the model type or its task head is not supported.
    """
    family = FAMILIES.get(model_type)
    if family is None:
        close = difflib.get_close_matches(model_type, FAMILIES, n=1)
        known = ", ".join(sorted(FAMILIES))
        raise UnsupportedModelError(
            f"unsupported architecture `{model_type}`",
            hint=f"did you mean `{close[0]}`?" if close else f"supported: {known}",
        )
    if architectures is not None:
        architecture_of(family, architectures)
    return family


def architecture_of(family: Family, names: Sequence[str]) -> str:
    """The class of the family that a config's `architectures` names; pruned classes count too.

    Raises:
        UnsupportedModelError: the class is unsupported, or none is named and the family has several.
    """
    for known in family.architectures:
        if any(name.endswith(known) for name in names):
            return known
    if not names and len(family.architectures) == 1:
        return family.architectures[0]
    wanted = ", ".join(f"`{name}`" for name in family.architectures)
    if not names:
        raise UnsupportedModelError(
            f"config.json of a `{family.model_type}` model has no `architectures`",
            hint=f"add the class that it was trained as, one of {wanted}",
        )
    raise UnsupportedModelError(
        f"unsupported architecture `{names[0]}`: `{family.model_type}` is supported as"
        f" {wanted} only",
        hint="give the causal language model checkpoint"
        if family.model_type in DECODERS
        else "give a checkpoint fine-tuned for one of these tasks, with its task head",
    )
