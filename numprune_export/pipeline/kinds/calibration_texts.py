"""The texts that a run calibrates on, by what reads them."""

from __future__ import annotations

from dataclasses import dataclass

from numprune_export.core.run_folder import key_of
from numprune_export.data.corpus import Windows


@dataclass(frozen=True)
class CalibrationTexts:
    """Token windows of each step; the same ones unless the model writes text of its own."""

    moments: Windows
    """For statistics of activations."""
    gradients: Windows
    """For gradients, on the first of these."""
    trials: Windows
    """For comparing plans, on the first of these: text that a trial's compensation has not read, where
    there is any."""
    compensation: Windows
    """For the compensation of the last plan."""
    batch: int
    """Windows run at once."""

    @classmethod
    def of(cls, windows: Windows, batch: int) -> CalibrationTexts:
        """The same windows for every step."""
        return cls(windows, windows, windows, windows, batch)


def windows_key(windows: Windows) -> str:
    """Hash of the token windows themselves: the calibration hash of a checkpoint."""
    return key_of(windows.tokens.tolist(), windows.lengths.tolist())
