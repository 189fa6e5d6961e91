"""The stage that de-quantises a GGUF file to safetensors, which are read block by block."""

from __future__ import annotations

from pathlib import Path

from numprune_export.core.disk_space import require_space
from numprune_export.core.stage import Stage
from numprune_export.models.checkpoint.load import load_source
from numprune_export.models.checkpoint.save import save_in_blocks
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.models import Dense


def dequantised(context: Context, dense: Dense) -> tuple[Stage, ...]:
    """The stage, whose folder the dense model is streamed from then; none if it is not needed.

    The whole model is in the CPU's memory while it is written.
    """
    if dense.source.kind != "gguf" or not dense.placement.streamed:
        return ()

    def make(folder: Path) -> None:
        require_space(folder, dense.weight_bytes)
        save_in_blocks(load_source(dense.source, dense.dtype).model, dense.family, folder)

    stage = context.stage("dequantise", "dense", [dense.key], make, shared=True)
    dense.read_blocks_from(stage.folder)
    return (stage,)
