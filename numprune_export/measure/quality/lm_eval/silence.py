"""Silence lm-eval: no progress bars, no log lines, no worker processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from numprune_export.core.optional import require

_ALONE = "DISABLE_MULTIPROC"


@contextmanager
def silence() -> Iterator[None]:
    """Silence lm-eval within a `with` statement.

    The run shows its own progress, and forking is unsafe once torch has threads.
    """
    task: Any = require("lm_eval.api.task", extra="eval")
    datasets: Any = require("datasets", extra="eval")
    logger = logging.getLogger("lm_eval")
    level, bar, alone = logger.level, task.tqdm, os.environ.get(_ALONE)
    bars = datasets.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    task.tqdm = _bare
    datasets.disable_progress_bars()
    os.environ[_ALONE] = "1"
    try:
        yield
    finally:
        logger.setLevel(level)
        task.tqdm = bar
        if not bars:
            datasets.enable_progress_bars()
        if alone is None:
            del os.environ[_ALONE]
        else:
            os.environ[_ALONE] = alone


def _bare(iterable: Iterable[Any], **_: Any) -> Iterable[Any]:
    return iterable
