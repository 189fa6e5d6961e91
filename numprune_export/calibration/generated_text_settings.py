"""Recipe settings of the text that a language model writes for its own calibration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from numprune_export.calibration.prompts import REQUESTS, Kind
from numprune_export.core.settings import Strict


class GeneratedText(Strict):
    """How much text, how bold, and what it is for."""

    sequences: NonNegativeInt = 0
    """Windows that the dense model writes, as long as the calibration's own."""
    per_window: PositiveInt = 1
    """Texts that fill a window, one after the other. All texts of some windows are written side by side:
    shorter ones take fewer steps, and there are more of them."""
    prompts: Kind = "auto"
    """What a text starts with: the chat template before a user's words or with one of the `requests` in
    it (`chat`), a word of the vocabulary, or a chat where the tokenizer has a template that leaves most
    of a text (`auto`)."""
    requests: Annotated[tuple[str, ...], Field(min_length=1)] = REQUESTS
    """What a user asks for in chats."""
    asked: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of the chats in which one of the `requests` is; in the others the model asks too."""
    temperature: PositiveFloat = 0.8
    """Of the sampling. At 1 a small model soon writes what nobody would."""
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """A word less likely than this fraction of the likeliest one is not written (Nguyen et al. 2024,
    arXiv:2407.01082)."""
    for_gradients: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of these texts mixed evenly among the calibration's own where a score takes gradients,
    which it does on the first ones of all. The repair reads all of them, moments none."""
    for_trials: bool = True
    """Plans that are tried out are compared on the first of these texts, which the repair of a trial has
    not read, and not on the calibration's own."""

    @property
    def learning(self) -> int:
        """Texts that gradients may be taken on."""
        return round(self.for_gradients * self.sequences)

    def length(self, tokens: int) -> int:
        """Tokens of a text, given those of a window; the last one of a window may be cut."""
        return -(-tokens // self.per_window)
