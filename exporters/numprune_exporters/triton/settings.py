"""Settings of `package --server triton --set`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def _valid_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(
            "A name is 1 to 64 letters, digits, `_`, `-` and `.`, and begins with a letter or digit"
        )
    return name


class TritonSettings(BaseModel):
    """The served model and its limits."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )

    name: Annotated[str, AfterValidator(_valid_name)] = "model"
    """Name of the model for clients."""
    capacity: PositiveInt | None = None
    """Longest sequence in tokens, prompt and generated. Default: the model's, at most 2048."""
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] = 64
    """Most generated tokens of a request without `max_tokens`."""
    max_batch: PositiveInt | None = None
    """Requests per batch. Default: the artifact's largest batch, at most 8."""
    queue_delay_us: Annotated[int, Field(ge=0, le=60_000_000)] = 2000
    """Longest wait of a request for others, in microseconds; at most one minute."""
    instances: Annotated[int, Field(ge=1, le=1024)] = 1
    """Copies of the model, each with its own memory; each runs one batch at a time."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads per instance; 0: one per core."""
