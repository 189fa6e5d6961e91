"""What a recipe may say under `tasks`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from numprune_export.core.settings import Strict


class Tasks(Strict):
    """Tasks beyond perplexity, of a language model. Needs the extra `[eval]`."""

    lm_eval: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of tasks, groups or tags of lm-eval, or of task files in `include`."""
    include: str | None = None
    """A folder with task files of one's own (YAML), looked up as other paths are; data files in them
    are relative to it. Then nothing need be fetched."""
    limit: PositiveInt | None = None
    """The first so many examples of each task; null: all."""
    fewshot: NonNegativeInt | None = None
    """Examples before the question; null: what each task says. A task that says 0 keeps it."""
    max_length: Annotated[int, Field(ge=2)] | None = None
    """Tokens that a model sees at once, longer texts are cut; null: as many as the model has positions,
    and no more than 2048."""
    batch: PositiveInt = 4
    """Requests run at once."""
    seed: NonNegativeInt = 0
    """Which examples stand before the question."""
    trust_code: bool = False
    """Whether task files in `include` may name Python code beside them (`!function`), which is then run."""
