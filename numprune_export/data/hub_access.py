"""Whether the Hugging Face hub answers, asked once and briefly: its clients retry for minutes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from numprune_export.core.optional import require
from numprune_export.core.paths import exists

PATIENCE_S = 5.0


def obstacle(
    name: str, revision: str | None, kind: Literal["model", "dataset"] = "model"
) -> str | None:
    """Why the hub cannot be reached, or None if it answers for this repository.

    Raises:
        HfHubHTTPError: it answers, and refuses.
    """
    from huggingface_hub import HfApi, errors

    # The base of all errors of the HTTP client, whichever client huggingface_hub was built on.
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
    """For the time of a `with`, `datasets` looks only in its cache if the hub does not answer.

    Yields:
        Why it does not answer, or None.

    Raises:
        HfHubHTTPError: the hub answers, and refuses: an OSError.
    """
    config: Any = require("datasets.config", extra="datasets")
    before = config.HF_HUB_OFFLINE
    silent = None if exists(Path(name)) else obstacle(name, revision, "dataset")
    config.HF_HUB_OFFLINE = before or silent is not None
    try:
        yield silent
    finally:
        config.HF_HUB_OFFLINE = before


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
