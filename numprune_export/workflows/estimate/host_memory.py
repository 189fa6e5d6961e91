"""Peak bytes of host memory of a run whose model is on a device, without the runtime."""

from __future__ import annotations

from numprune_export.pruning.score.fisher_obs import reads_output_fisher
from numprune_export.workflows.estimate import memory, site_memory
from numprune_export.workflows.estimate.stages import Job


def peak(job: Job, name: str, *, streamed: bool) -> float:
    """Peak of the stage with this name.

    The dense model stays in host memory, which artifacts are exported from; a streamed one is read
    block by block, and whole only to write text.
    """
    shapes, recipe = job.shapes, job.recipe
    rest = float(shapes.itemsize * (shapes.parameters - shapes.prunable))
    largest = max(sum(site.weights for site in block) for block in shapes.blocks)
    block = float(shapes.itemsize * largest)
    model = block if streamed else float(shapes.bytes)
    fisher = reads_output_fisher(recipe.score)
    stage = name.partition("-")[0]
    if stage == "write":
        return float(shapes.bytes)
    if stage == "read":
        return 0.0 if streamed else model
    if stage == "calibrate":
        grams = max(sum(4.0 * site.width**2 for site in part) for part in shapes.blocks)
        return model + memory.TEXT * job.texts.bytes + grams
    if stage == "gradients" and fisher:
        texts = job.differentiated(recipe.score)  # type: ignore[arg-type]
        at_once = texts if streamed else texts.first(texts.batch)
        return model + len(shapes.blocks) * memory.hidden_states(shapes, at_once)
    if stage == "prune":
        # Pruned blocks are written as they are finished; the proof holds the rest of the model.
        return model + (
            2 * rest + 2 * block if streamed else float(shapes.shrunk(recipe.keep).bytes)
        )
    if stage == "score" and job.scores_at_once:
        read = max(8.0 * site.inputs**2 for site in shapes.sites) if fisher else 0.0
        return model + memory.TEXT * job.texts.bytes + read
    # The score reads the Fisher matrix too; packed, a matrix takes half as much again.
    return model + 1.5 * max(site_memory.statistics(site, fisher=fisher) for site in shapes.sites)
