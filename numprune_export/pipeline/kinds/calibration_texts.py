"""The calibration texts of a run, by the step that reads them."""

from __future__ import annotations

from dataclasses import dataclass

from numprune_export.core.stage import key_of
from numprune_export.data.corpus import Windows


@dataclass(frozen=True)
class CalibrationTexts:
    """Token windows of each step; the same for all steps unless the model generates text."""

    moments: Windows
    """For Gram matrices and means of activations."""
    gradients: Windows
    """For gradients, which read the first of these."""
    trials: Windows
    """For comparing plans, which reads the first of these: if possible, text that the trial
    compensation does not read."""
    compensation: Windows
    """For the compensation of the final plan."""
    batch: int
    """Windows per forward pass."""
    written: Windows | None = None
    """Texts of the model that were generated elsewhere."""

    @classmethod
    def of(cls, windows: Windows, batch: int, written: Windows | None = None) -> CalibrationTexts:
        """The same windows for every step."""
        return cls(windows, windows, windows, windows, batch, written)


def windows_key(windows: Windows) -> str:
    """Hash of the token windows: the calibration hash of a checkpoint."""
    return key_of(windows.tokens.tolist(), windows.lengths.tolist())
