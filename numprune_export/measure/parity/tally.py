"""Running totals over compared logits of decoders and encoders."""

from __future__ import annotations

import numpy as np

from numprune_export.export.runner import Logits
from numprune_export.numerics.divergence import divergence

_ROWS_AT_ONCE = 64


class Tally:
    """Totals of the differences between candidate and reference logits."""

    def __init__(self) -> None:
        self.error = -1.0
        """Largest absolute difference of a logit; infinite after NaN or infinity on either side."""
        self.worst = "nowhere"
        self.differences = 0.0
        """Sum over rows of the mean absolute difference of a row's logits."""
        self.nats = 0.0
        """Sum over rows of KL(reference || candidate)."""
        self.agreeing = self.positions = 0
        self.finite = True

    def compare(self, where: str, expected: Logits, got: Logits, axis: str) -> None:
        """Add logits, (n, classes) each; `axis` names the axis of length n, such as `row`."""
        assert expected.shape == got.shape, (expected.shape, got.shape)
        self.positions += len(expected)
        for start in range(0, len(expected), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            self._compare_part(where, expected[part], got[part], axis, start)

    def _compare_part(
        self, where: str, expected: Logits, got: Logits, axis: str, start: int
    ) -> None:
        usable = np.isfinite(expected).all(axis=1) & np.isfinite(got).all(axis=1)
        if not usable.all():
            if self.finite:
                self.worst = f"{where}, {axis} {start + int(usable.argmin())}"
            self.finite, self.error = False, np.inf
            self.nats = self.differences = np.inf
            expected, got = expected[usable], got[usable]
        if len(expected) == 0:
            return
        differences = np.abs(expected.astype(np.float64) - got)
        self.differences += float(differences.mean(axis=1).sum())
        errors = differences.max(axis=1)
        if errors.max() > self.error:
            self.error = float(errors.max())
            self.worst = f"{where}, {axis} {start + int(errors.argmax())}"
        self.nats += float(divergence(expected, got).sum())
        self.agreeing += int((expected.argmax(axis=1) == got.argmax(axis=1)).sum())
