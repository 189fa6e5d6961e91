"""Recipe settings of the section `tasks`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from numprune_export.core.settings import Strict


class Tasks(Strict):
    """lm-eval tasks for a language model. Needs the extra `[eval]`."""

    lm_eval: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of lm-eval tasks, groups or tags, or of task files in `include`."""
    include: str | None = None
    """Folder with your own task files (YAML), resolved like other paths. Data files are relative
    to the folder; nothing is downloaded."""
    limit: PositiveInt | None = None
    """Number of examples of each task, from the first; null: all."""
    fewshot: NonNegativeInt | None = None
    """Few-shot examples before the question; null: as each task defines. A task with 0 keeps 0."""
    max_length: Annotated[int, Field(ge=2)] | None = None
    """Maximum sequence length in tokens, longer texts are truncated; null: the number of positions
    of the model, at most 2048."""
    batch: PositiveInt = 4
    """Requests per forward pass."""
    seed: NonNegativeInt = 0
    """Seed of the few-shot examples."""
    trust_code: bool = False
    """Whether task files in `include` may run Python code beside them (`!function`)."""
