"""Recipe settings of generated calibration text."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from numprune_export.calibration.prompts import REQUESTS, Kind
from numprune_export.core.settings import Strict


class GeneratedText(Strict):
    """Amount, sampling and use of generated text."""

    sequences: NonNegativeInt = 0
    """Windows that the dense model generates, as long as the windows of the calibration text."""
    texts: str | None = None
    """File of texts that were generated elsewhere, for example by a server of the same model: one text
    per line, or rows with a field `text` (`.jsonl`, `.json`, `.csv`, `.tsv`). They fill the windows
    one after the other, each followed by the end-of-text token. No model is run, and the keys from
    `per_window` to `min_p` are not used."""
    per_window: PositiveInt = 1
    """Texts per window, one after the other. The texts of a group of windows are generated in one
    batch: shorter texts take fewer steps in a larger batch."""
    prompts: Kind = "auto"
    """Prompt of a text. `chat`: the chat template, either up to the user's message or with one of
    the `requests` as the message. `vocabulary`: one token of the vocabulary. `auto`: `chat` if the
    tokenizer has a working template that leaves most of a text to be generated, else
    `vocabulary`."""
    requests: Annotated[tuple[str, ...], Field(min_length=1)] = REQUESTS
    """User messages of chat prompts."""
    asked: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of the chat prompts with one of the `requests`; in the others the model generates
    the user's message too."""
    temperature: PositiveFloat = 0.8
    """Sampling temperature. At 1 the text of a small model soon degenerates."""
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """A token less likely than this fraction of the likeliest token is never sampled (Nguyen et al.
    2024, arXiv:2407.01082)."""
    for_gradients: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of the generated windows mixed evenly into the calibration windows of a score that
    takes gradients; it reads the first windows of the mix. Compensation reads all generated
    windows, statistics for the score none."""
    for_trials: bool = True
    """Compare candidate plans on the first generated windows, which trial compensation does not
    read, instead of on calibration windows."""

    @model_validator(mode="after")
    def _some_windows(self) -> GeneratedText:
        if self.texts is not None and not self.sequences:
            raise ValueError("`texts` needs `sequences`, the number of windows to fill with them")
        return self

    @property
    def learning(self) -> int:
        """Windows that gradients may be taken on."""
        return round(self.for_gradients * self.sequences)

    def length(self, tokens: int) -> int:
        """Tokens per text, given the tokens per window; the last text of a window may be cut."""
        return -(-tokens // self.per_window)
