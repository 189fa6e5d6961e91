"""Slot steps that refuse shapes outside the engine's profiles."""

from __future__ import annotations

from numprune_export.export.runner import Logits, Tokens
from numprune_exporters.runners.slot_steps import SlotDevice, SlotSteps
from numprune_exporters.trt.profiles import Profiles


class EngineSteps(SlotSteps):
    """Refuses a prompt outside the profiles before allocating memory for it."""

    def __init__(self, device: SlotDevice, profiles: Profiles, *, slots: int) -> None:
        super().__init__(device, capacity=slots)
        self._profiles = profiles

    def prefill(self, tokens: Tokens, lengths: Tokens, positions: Tokens) -> Logits:
        """See SlotSteps.prefill.

        Raises:
            InputError: the batch, length or number of logits is outside the profiles.
        """
        batch, length = tokens.shape
        self._profiles.require_prompt(batch, length, positions.shape[1])
        return super().prefill(tokens, lengths, positions)
