"""What `package --server triton --set` may say."""

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
    """What clients call the model."""
    capacity: PositiveInt | None = None
    """Longest sequence in tokens, prompt and generated. Default: the model's, at most 2048."""
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] = 64
    """Generated at most for a request that does not say."""
    max_batch: PositiveInt | None = None
    """Requests answered together. Default: what the artifact takes, at most 8."""
    queue_delay_us: Annotated[int, Field(ge=0, le=60_000_000)] = 2000
    """How long a request may wait for others, in microseconds, at most a minute."""
    instances: Annotated[int, Field(ge=1, le=1024)] = 1
    """Copies of the model, each with its own memory; each answers one batch at a time."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads of each instance; 0: one for each core."""
