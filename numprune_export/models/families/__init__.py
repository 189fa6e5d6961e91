"""Which architectures can be pruned: an explicit table of declarations, one file each."""

import difflib
from collections.abc import Sequence

from numprune_export.core.errors import UnsupportedModelError
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.models.families import bert, distilbert, llama, mistral, qwen2, qwen3, roberta
from numprune_export.models.family import Family

DECODERS: dict[str, RotaryDecoder] = {
    one.FAMILY.model_type: one.FAMILY for one in (llama, mistral, qwen2, qwen3)
}
ENCODERS: dict[str, BidirectionalEncoder] = {
    one.FAMILY.model_type: one.FAMILY for one in (bert, distilbert, roberta)
}
FAMILIES: dict[str, Family] = {**DECODERS, **ENCODERS}


def family_of(model_type: str, architectures: Sequence[str] | None) -> Family:
    """The declaration for a config's `model_type` and `architectures`; None: do not look at those.

    Raises:
        UnsupportedModelError: no family describes it, or its head is not one that can be measured.
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
    """Which class of the family a config's `architectures` names, ours for pruned layers included.

    Raises:
        UnsupportedModelError: another class, or no class where the family has several.
    """
    for known in family.architectures:
        if any(name.endswith(known) for name in names):
            return known
    if not names and len(family.architectures) == 1:
        return family.architectures[0]
    wanted = ", ".join(f"`{one}`" for one in family.architectures)
    if not names:
        raise UnsupportedModelError(
            f"config.json of a `{family.model_type}` model does not say its `architectures`",
            hint=f"add the class it was trained as, one of {wanted}",
        )
    raise UnsupportedModelError(
        f"unsupported architecture `{names[0]}`: `{family.model_type}` is supported as"
        f" {wanted} only",
        hint="give the causal language model checkpoint"
        if family.model_type in DECODERS
        else "give a checkpoint fine-tuned for one of these tasks: without a head nothing can be measured",
    )
