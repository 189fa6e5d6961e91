"""State of a training on disk, from which a killed run goes on with the same steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import AdamW

from numprune_export.core.stage_record import put_whole

TENSORS, NUMBERS = "training.safetensors", "training.json"
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class Look:
    """The divergence on held-out windows after some steps, by text source, nats per token."""

    step: int
    seconds: float
    """Of training until then, without looks."""
    loss: float | None
    """Mean training divergence since the last look; None before the first step."""
    held_out: dict[str, float]

    @property
    def mean(self) -> float:
        return sum(self.held_out.values()) / len(self.held_out)


@dataclass
class Training:
    """Trained weights, the optimiser's moments, and the looks so far."""

    weights: Mapping[str, nn.Parameter]
    optimiser: AdamW
    looks: list[Look] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights at the look with the smallest mean, on the CPU."""

    def add(self, look: Look) -> None:
        """Add a look, and keep the weights if it is the best so far."""
        if not self.looks or look.mean < min(earlier.mean for earlier in self.looks):
            self.best = {
                name: weight.detach().cpu().clone() for name, weight in self.weights.items()
            }
        self.looks.append(look)

    @property
    def since_best(self) -> int:
        """Looks after the best one."""
        means = [look.mean for look in self.looks]
        return len(means) - 1 - means.index(min(means))

    def write(self, folder: Path) -> None:
        """Write all of it; the files are whole or those of an earlier look."""
        tensors = {f"best.{name}": tensor for name, tensor in self.best.items()}
        for name, weight in self.weights.items():
            tensors[f"weight.{name}"] = weight.detach().cpu().contiguous()
            for moment in MOMENTS:
                if weight in self.optimiser.state:
                    tensors[f"{moment}.{name}"] = self.optimiser.state[weight][moment].cpu()
        # A name per look: the pair of files that belongs together is named in the last written one.
        step = self.looks[-1].step
        place, partial = folder / f"{step}-{TENSORS}", folder / f".{TENSORS}.partial"
        save_file(tensors, partial)
        put_whole(partial, place)
        numbers = {"step": step, "looks": [asdict(look) for look in self.looks]}
        written = folder / f".{NUMBERS}.partial"
        written.write_text(json.dumps(numbers) + "\n")
        put_whole(written, folder / NUMBERS)
        for earlier in folder.glob(f"*-{TENSORS}"):
            if earlier != place:
                earlier.unlink()

    def read(self, folder: Path) -> int:
        """Read what `write` has written. Returns the steps done; 0: nothing was written."""
        if not (folder / NUMBERS).is_file():
            return 0
        numbers = json.loads((folder / NUMBERS).read_text())
        step = int(numbers["step"])
        tensors = load_file(folder / f"{step}-{TENSORS}")
        self.looks = [Look(**look) for look in numbers["looks"]]
        for name, weight in self.weights.items():
            with torch.no_grad():
                weight.copy_(tensors[f"weight.{name}"])
            self.best[name] = tensors[f"best.{name}"]
            if step:
                self.optimiser.state[weight] = {
                    "step": torch.tensor(float(step)),
                    **{moment: tensors[f"{moment}.{name}"].to(weight.device) for moment in MOMENTS},
                }
        return step
