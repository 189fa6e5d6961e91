"""Bytes of weights that are moved to the device, stage by stage."""

from __future__ import annotations

from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.workflows.estimate.stages import Job
from numprune_export.workflows.estimate.work import Work


def of(job: Job, name: str, *, streamed: bool, first: str) -> Work:
    """Work of the stage with this name.

    Args:
        job: The job.
        name: The stage.
        streamed: Whether blocks are read while they are in use, once per pass.
        first: The first stage that reads the model.
    """
    shapes, allocate = job.shapes, job.recipe.allocate
    once = float(shapes.bytes)
    if name == "write-text" or (name == first and not streamed):
        return Work({"transfers": once})
    if not streamed:
        return Work({})
    stage = name.partition("-")[0]
    passes = {"calibrate": 1.0, "gradients": 2.0, "prune": 1.0}.get(stage, 0.0)
    if stage == "score":
        consumers = sum(site.width * site.inputs for site in shapes.sites)
        passed = shapes.prunable if job.scores_at_once else 0
        return Work({"transfers": float(shapes.itemsize * (consumers + passed))})
    if stage == "allocate" and isinstance(allocate, Curves) and len(allocate.candidates) > 1:
        passes = 1.0 + len(allocate.candidates)
    return Work({"transfers": passes * shapes.itemsize * shapes.prunable})
