"""A quick check whether the Hugging Face Hub is reachable; its clients retry for minutes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from numprune_export.core.optional import require
from numprune_export.core.paths import exists

PATIENCE_S = 5.0
"""Timeout of the check."""


def obstacle(
    name: str, revision: str | None, kind: Literal["model", "dataset"] = "model"
) -> str | None:
    """The reason why the Hub is unreachable, or None if it answers for this repository.

    Raises:
        HfHubHTTPError: the Hub refuses the request.
    """
    from huggingface_hub import HfApi, errors

    # Base class of HTTP errors of the client that huggingface_hub uses.
    transport: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    try:
        HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=PATIENCE_S)
    except errors.HfHubHTTPError as error:
        if error.response is None or error.response.status_code < 500:
            raise
        return _first_line(error)
    except errors.OfflineModeIsEnabled:
        return "offline mode is on (`HF_HUB_OFFLINE`)"
    except transport as error:
        return _first_line(error) or type(error).__name__
    return None


@contextmanager
def reachable_or_offline(name: str, revision: str | None) -> Iterator[str | None]:
    """If the Hub is unreachable, `datasets` reads only its cache inside the `with`.

    Yields:
        The reason why the Hub is unreachable, or None.

    Raises:
        HfHubHTTPError: the Hub refuses the request; an OSError.
    """
    config: Any = require("datasets.config", extra="datasets")
    before = config.HF_HUB_OFFLINE
    unreachable = None if exists(Path(name)) else obstacle(name, revision, "dataset")
    config.HF_HUB_OFFLINE = before or unreachable is not None
    try:
        yield unreachable
    finally:
        config.HF_HUB_OFFLINE = before


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
