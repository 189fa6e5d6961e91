"""Download of models from the Hugging Face hub: configuration first, then weights."""

import re
from pathlib import Path

from numprune_export.core.errors import HubError
from numprune_export.core.foreign import first_line
from numprune_export.data.hub_access import PATIENCE_S, obstacle

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CONFIG = ["config.json"]
_MODEL = ["*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer.model", "README.md"]


def is_hub_id(reference: str) -> bool:
    """Whether `reference` has the form `organisation/name`."""
    return _ID.fullmatch(reference) is not None and not reference.endswith(".gguf")


def config_folder(name: str, revision: str | None) -> Path:
    """A local folder with the model's config.json; downloads no other file."""
    return _snapshot(name, revision, _CONFIG)


def model_folder(name: str, revision: str | None) -> Path:
    """A local folder with configuration, safetensors weights and tokenizer.

    The folder's name is the commit. Without a connection, the hub cache of this machine is used.

    Raises:
        HubError: the hub cannot be reached and the model is not in the cache, or the hub refuses.
    """
    return _snapshot(name, revision, _MODEL)


def _snapshot(name: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    at = f"`{name}`" if revision is None else f"`{name}` at revision `{revision}`"
    try:
        # Checked first: snapshot_download waits for an unresponsive server forever.
        problem = obstacle(name, revision)
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=patterns,
            etag_timeout=PATIENCE_S,
            local_files_only=problem is not None,
        )
    except errors.GatedRepoError:
        raise HubError(
            f"{at} is gated: its terms must be accepted",
            hint=f"accept them at https://huggingface.co/{name}, then run `hf auth login`",
        ) from None
    except errors.RevisionNotFoundError:
        raise HubError(
            f"the hub has no {at}", hint="give a branch, tag or commit of the model"
        ) from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"the hub has no model {at}, or it is private",
            hint="check the spelling, or run `hf auth login`; a local folder must exist",
        ) from None
    except errors.LocalEntryNotFoundError as error:
        raise HubError(
            f"the hub cannot be reached and {at} is not in its cache: {problem or error}",
            hint="check the connection, or give a local folder or a GGUF file",
        ) from None
    except (errors.HfHubHTTPError, errors.HFValidationError) as error:
        raise HubError(
            f"the hub refused {at}: {first_line(error)}", hint="check the name and the revision"
        ) from None
    return Path(folder)
