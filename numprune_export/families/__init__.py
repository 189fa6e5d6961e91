"""Which architectures can be pruned: an explicit table of declarations, one file each."""

import difflib

from numprune_export.errors import UnsupportedModelError
from numprune_export.families import llama, mistral, qwen2, qwen3
from numprune_export.family import RotaryDecoder

FAMILIES: dict[str, RotaryDecoder] = {
    one.FAMILY.model_type: one.FAMILY for one in (llama, mistral, qwen2, qwen3)
}


def family_of(model_type: str, architectures: list[str] | None) -> RotaryDecoder:
    """The declaration for a config's `model_type` and `architectures`.

    Raises:
        UnsupportedModelError: no family describes it, or it is not a causal language model.
    """
    known = ", ".join(sorted(FAMILIES))
    family = FAMILIES.get(model_type)
    if family is None:
        close = difflib.get_close_matches(model_type, FAMILIES, n=1)
        raise UnsupportedModelError(
            f"unsupported architecture `{model_type}`",
            hint=f"did you mean `{close[0]}`?" if close else f"supported: {known}",
        )
    if architectures and not any(name.endswith(family.architecture) for name in architectures):
        raise UnsupportedModelError(
            f"unsupported architecture `{architectures[0]}`: `{model_type}` is supported as"
            f" `{family.architecture}` only",
            hint="give the causal language model checkpoint",
        )
    return family
