"""Write a Triton package: model repositories, requirements, client and README files."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel

from numprune_export.core.errors import InputError, RecipeError, UnsupportedModelError
from numprune_export.export.artifact import Artifact
from numprune_exporters.triton import readme
from numprune_exporters.triton.files_copy import place_artifact, place_file
from numprune_exporters.triton.graph_config import ONE_TOTAL, graph_config
from numprune_exporters.triton.limits import Limits, limits
from numprune_exporters.triton.model_config import to_pbtxt
from numprune_exporters.triton.runtime_copy import copy_modules
from numprune_exporters.triton.served import opening, text_tokenizer
from numprune_exporters.triton.served_targets import ServedTarget, served
from numprune_exporters.triton.settings import TritonSettings
from numprune_exporters.triton.text_config import WARM_UP_PROMPT, text_config, warm_up_text

SERVED_CODE = (
    "numprune_exporters.triton.served.generation",
    "numprune_exporters.triton.served.opening",
    "numprune_exporters.triton.served.request",
)
FILES = Path(__file__).parent / "files"
TOKENIZER_FILES = (
    text_tokenizer.TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    *text_tokenizer.CONFIGS,
)


class TritonPackager:
    """Packages a text model (Python backend) and the bare graph as model repositories."""

    name: ClassVar[str] = "triton"
    summary: ClassVar[str] = "NVIDIA Triton Inference Server: text in, text out, streamed"
    settings: ClassVar[type[BaseModel]] = TritonSettings

    def package(
        self, artifact: Artifact, tokenizer: Path, folder: Path, settings: BaseModel
    ) -> None:
        """See Packager.package.

        Raises:
            RecipeError: the capacity or batch exceeds the limits of the artifact.
            MissingExtraError: tritonclient is not installed.
        """
        if not isinstance(settings, TritonSettings):
            raise RecipeError(
                f"`{type(settings).__name__}` are not settings of the server `{self.name}`",
                hint="give the settings class of the server",
            )
        target, within = served(artifact), limits(artifact, settings)
        _write_text_model(artifact, tokenizer, folder, settings, target, within)
        if target.backend is not None:
            _write_graph(artifact, folder, settings, target)
        _write_documents(artifact, folder, settings, target, within)


def _write_text_model(
    artifact: Artifact,
    tokenizer: Path,
    folder: Path,
    settings: TritonSettings,
    target: ServedTarget,
    within: Limits,
) -> None:
    model = folder / "repository" / settings.name
    place_artifact(artifact, model / "1" / opening.ARTIFACT)
    _write_tokenizer(tokenizer, model / "1" / opening.TOKENIZER)
    copy_modules([*SERVED_CODE, target.opener.partition(":")[0]], model / "1" / "runtime")
    shutil.copyfile(FILES / "model.py", model / "1" / "model.py")
    (model / "warmup").mkdir()
    (model / "warmup" / WARM_UP_PROMPT).write_bytes(warm_up_text("Hello"))
    (model / "config.pbtxt").write_text(to_pbtxt(text_config(settings, target, within)))


def _write_tokenizer(source: Path, folder: Path) -> None:
    if not (source / text_tokenizer.TOKENIZER).is_file():
        raise UnsupportedModelError(
            f"`{source}` has no `{text_tokenizer.TOKENIZER}`, which the server needs",
            hint="use a model with a fast tokenizer",
        )
    folder.mkdir()
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    try:
        text_tokenizer.TextTokenizer(folder)
    except Exception as error:  # tokenizers raises no narrower error for an unreadable file
        raise InputError(
            f"the tokenizer in `{source}` cannot be read: {error}", hint="run the recipe again"
        ) from None


def _write_graph(
    artifact: Artifact, folder: Path, settings: TritonSettings, target: ServedTarget
) -> None:
    model = folder / "native" / f"{settings.name}_graph"
    for name in artifact.files.keys() - set(artifact.evidence):
        place_file(artifact.folder / name, model / "1" / name)
    if artifact.entry != target.default_file:
        (model / "1" / artifact.entry).rename(model / "1" / target.default_file)
    (model / "warmup").mkdir()
    (model / "warmup" / ONE_TOTAL).write_bytes((1).to_bytes(4, "little"))
    (model / "config.pbtxt").write_text(to_pbtxt(graph_config(artifact, target, settings)))
    (folder / "native" / "README.md").write_text(
        readme.graph(artifact, settings, target), encoding="utf-8"
    )


def _write_documents(
    artifact: Artifact,
    folder: Path,
    settings: TritonSettings,
    target: ServedTarget,
    within: Limits,
) -> None:
    facts = readme.flat_facts(artifact)
    requirements = [requirement.format(**facts) for requirement in target.requirements]
    lines = [*requirements, f"tokenizers=={version('tokenizers')}", "numpy>=1.26,<2"]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n")
    client = (FILES / "client.py").read_text(encoding="utf-8")
    (folder / "client.py").write_text(client.replace("@NAME@", settings.name), encoding="utf-8")
    (folder / "README.md").write_text(
        readme.text_model(artifact, settings, target, within), encoding="utf-8"
    )
