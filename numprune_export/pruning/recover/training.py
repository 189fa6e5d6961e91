"""Training of a pruned model towards the dense one's next-token distributions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import AdamW

from numprune_export.core.errors import NumericalError
from numprune_export.data.corpus import Windows
from numprune_export.models.family import Family
from numprune_export.pruning.recover.divergence import divergence
from numprune_export.pruning.recover.schedule import Schedule
from numprune_export.pruning.recover.settings import Recover
from numprune_export.pruning.recover.state import Look, Training

BETAS = (0.9, 0.95)
NORM = 1.0
"""Gradients are scaled down to this norm."""


@dataclass(frozen=True)
class RecoveryTexts:
    """Windows of a recovery."""

    trained: Windows
    """In an order that mixes the sources."""
    held_out: Mapping[str, Windows]
    """By source; none of them is among those that are trained on."""
    seed: int
    """Of the order of later passes."""


@dataclass(frozen=True)
class Recovery:
    """One recovery: the models, the texts and the settings."""

    student: Any
    """The pruned model, fp32; its weights change."""
    teacher: Any
    """The dense model."""
    family: Family
    texts: RecoveryTexts
    settings: Recover

    @property
    def steps(self) -> int:
        length = int(self.texts.trained.tokens.shape[1])
        return max(1, -(-self.settings.tokens // (self.settings.batch * length)))

    def run(self, folder: Path, tick: Callable[[int], None]) -> list[Look]:
        """Train, and leave the best weights in the student.

        Args:
            folder: For the state, from which a killed training goes on.
            tick: Called with the steps just done; those done before count.

        Returns:
            The looks at held-out windows.

        Raises:
            NumericalError: a divergence is not finite.
        """
        weights = self._trained()
        optimiser = AdamW(
            weights.values(), lr=self.settings.learning_rate, betas=BETAS, weight_decay=0.0
        )
        training = Training(weights, optimiser)
        done = training.read(folder)
        if not training.looks:
            training.add(self._look(0, 0.0, None))
        tick(done)
        self._train(training, done, folder, tick)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(training.best[name])
                weight.requires_grad_(False)
        self.student.eval()
        return training.looks

    def _train(
        self, training: Training, done: int, folder: Path, tick: Callable[[int], None]
    ) -> None:
        settings, every = self.settings, self.settings.check_every
        seconds, losses = training.looks[-1].seconds, list[float]()
        schedule = Schedule(self.steps, settings.minutes)
        for step, rows in self._batches(done):
            started = time.monotonic()
            share = schedule.done(step, seconds)
            if share >= 1:
                break
            for group in training.optimiser.param_groups:
                group["lr"] = settings.learning_rate * schedule.rate(share)
            losses.append(self._step(training, rows))
            seconds += time.monotonic() - started
            tick(1)
            last = schedule.done(step + 1, seconds) >= 1
            if last or (step + 1) % every == 0:
                loss = float(np.mean(losses))
                training.add(self._look(step + 1, seconds, loss))
                training.write(folder)
                losses.clear()
                if training.since_best >= settings.patience:
                    break

    def _step(self, training: Training, rows: NDArray[Any]) -> float:
        self.student.train()
        total, tokens = divergence(
            self.student, self.teacher, self.family, self.texts.trained.rows(rows)
        )
        loss = total / tokens
        value = float(loss.detach())
        if not np.isfinite(value):
            raise NumericalError(
                "the divergence of the trained model is not finite",
                hint="lower `recover.learning_rate`",
            )
        training.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(training.weights.values(), NORM)
        training.optimiser.step()
        return value

    def _look(self, step: int, seconds: float, loss: float | None) -> Look:
        """Divergence on the held-out windows of every source."""
        self.student.eval()
        held_out = {}
        with torch.no_grad():
            for name, windows in self.texts.held_out.items():
                sums = [
                    divergence(self.student, self.teacher, self.family, windows.rows(rows))
                    for rows in windows.by_length(self.settings.batch)
                ]
                total = sum(float(value) for value, _ in sums)
                held_out[name] = total / sum(tokens for _, tokens in sums)
        return Look(step, seconds, loss, held_out)

    def _batches(self, done: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Step and rows; the first pass is in the texts' order, later ones in a new order each."""
        count, batch, step, number = len(self.texts.trained.tokens), self.settings.batch, 0, 0
        batch = min(batch, count)
        while True:
            order = np.arange(count)
            if number:
                order = np.random.default_rng((self.texts.seed, number)).permutation(count)
            for start in range(0, count - batch + 1, batch):
                if step >= done:
                    yield step, order[start : start + batch]
                step += 1
            number += 1

    def _trained(self) -> dict[str, nn.Parameter]:
        """Trained weights by name; all others are frozen."""
        apart = {
            id(weight)
            for module in (
                self.student.get_input_embeddings(), self.student.get_output_embeddings()
            )
            for weight in module.parameters()
        }  # fmt: skip
        trained = {}
        for name, weight in self.student.named_parameters():
            chosen = self.settings.weights == "all" or id(weight) not in apart
            assert weight.dtype == torch.float32, name
            weight.requires_grad_(chosen)
            if chosen:
                trained[name] = weight
        return trained
