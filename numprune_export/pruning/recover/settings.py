"""Settings of recovery by distillation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from numprune_export.core.settings import Strict


class Recover(Strict):
    """Training of the pruned model towards the dense model's next-token distributions."""

    method: Literal["distill"] = "distill"
    tokens: PositiveInt = 100_000
    """Training tokens; passes over the windows are repeated until they are reached."""
    minutes: PositiveFloat | None = None
    """Training ends after this time, and the learning rate falls with it. Results then depend on the
    machine's speed. Null: after `tokens`."""
    sequences: PositiveInt | None = None
    """Different windows, drawn from the calibration's sources with another seed. Null: as many as
    `tokens` need."""
    batch: PositiveInt = 2
    """Windows per step."""
    learning_rate: PositiveFloat = 3e-4
    """Largest rate of AdamW: reached after a tenth of the steps, then falling as a half cosine."""
    weights: Literal["blocks", "all"] = "blocks"
    """What is trained: the layers of all blocks and the norms, or embedding and head too."""
    held_out: PositiveInt = 2
    """Windows of each source on which the divergence is watched; none of them is trained on."""
    check_every: PositiveInt = 32
    """Steps between two looks at them. The weights with the smallest mean divergence are kept; those
    before the training are among the candidates."""
    patience: Annotated[int, Field(ge=1)] = 4
    """Training ends after this many looks without an improvement."""
