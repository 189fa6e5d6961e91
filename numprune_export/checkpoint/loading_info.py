"""What transformers only warns about while it loads, as errors.

It fills a missing tensor with random numbers, drops one that it does not expect, and (as it is
called here) re-initialises one of the wrong shape. Each makes a different network.
"""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from numprune_export.errors import InputError


def matching(path: Path, model: PreTrainedModel, info: dict[str, Any]) -> PreTrainedModel:
    """The model, if every tensor of `path` went where its configuration says.

    Args:
        info: What `from_pretrained(..., output_loading_info=True)` returned beside the model.

    Raises:
        InputError: a tensor is missing, unexpected or of the wrong shape; the first one is named.
    """
    for problem in ("missing", "unexpected", "mismatched"):
        found = sorted(map(_name, info[f"{problem}_keys"]))
        if found:
            raise InputError(
                f"`{path}` does not match its configuration: {len(found)} {problem} tensors,"
                f" the first is `{found[0]}`",
                hint="config.json and the weights must come from the same checkpoint",
            )
    return model


def _name(key: str | tuple[Any, ...]) -> str:
    """A mismatched tensor is listed with its two shapes, the others by name alone."""
    return key if isinstance(key, str) else str(key[0])
