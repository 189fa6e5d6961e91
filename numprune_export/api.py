"""The Python API: prune a live model, save, load, export, compare, and run a recipe.

    import numprune_export as ne

    pruned = ne.prune(model, tokenizer, ["some text", ...], keep=0.8)
    pruned.save("smaller")
    ne.compare(model, pruned, held_out_texts).perplexity_ratio

Importing this module costs no torch; the functions bring it in when they are called. A pruned model is an
ordinary `transformers.PreTrainedModel`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numprune_export.core.errors import InputError, OutputError
from numprune_export.core.progress import CallbackObserver, Observer, Silent

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from numprune_export.export.artifact import Artifact
    from numprune_export.pipeline.live import Texts
    from numprune_export.pruning.plan import Plan
    from numprune_export.recipe import Recipe
    from numprune_export.recipe.lookup import Named
    from numprune_export.report.schema import Report

Progress = Callable[[str, float | None], None]
"""Called with the name of a stage and the fraction of it that is done, None where no end is known."""


@dataclass(frozen=True)
class PrunedModel:
    """A pruned model in memory."""

    model: PreTrainedModel
    """In the mode and dtype of the dense model, with tensors of its own."""
    tokenizer: PreTrainedTokenizerBase | None
    plan: Plan
    """Which units stay."""
    recipe: Recipe
    """Every setting that it was pruned with."""

    @property
    def keep(self) -> float:
        """Fraction of the prunable parameters that is left."""
        return self.plan.keep

    def save(self, folder: str | Path) -> Path:
        """See `save`."""
        return save(self, folder)


@dataclass(frozen=True)
class ModelComparison:
    """Two language models on the same windows of text."""

    perplexity: tuple[float, float]
    """Of the first and of the second model, per token."""
    divergence: float
    """Mean KL(first ‖ second) of next tokens, nats."""
    parameters: tuple[int, int]
    tokens: int
    """Tokens that were scored."""

    @property
    def perplexity_ratio(self) -> float:
        """Second over first."""
        return self.perplexity[1] / self.perplexity[0]


def prune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    texts: Texts,
    keep: float = 0.8,
    method: str = "best",
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> PrunedModel:
    """Prune a model in memory, without training and without a run folder; `model` does not change.

    Args:
        model: A causal language model, or an encoder with a task head, of a supported family, in
            any floating-point type. It is pruned on its own device.
        tokenizer: Of the model.
        texts: Calibration text of a language model: strings, or the path of a text or JSONL file. For a
            model with a task head labelled examples: mappings as in a labelled JSONL file, or its path.
        keep: Fraction of the prunable parameters that stays, in (0, 1].
        method: `best`, `fast`, `paper-numerical` or `paper-fisher`.
        settings: Further keys of a recipe, dotted or nested: `{"score.damping": 0.01, "rounds": 2}`.
        progress: Called as work goes on.

    Returns:
        The pruned model. `pruned.model` works with `generate`, `pipeline`, `torch.compile`, `Trainer`,
        adapters and `save_pretrained`.

    Raises:
        RecipeError: a setting is not allowed, or no plan is as small as `keep`.
        InputError: too little text, no tokenizer, or a token that the model has no embedding for.
        UnsupportedModelError: no family describes the model.
        NumericalError: activations are not finite.

    Example:
        ```python
        from transformers import AutoModelForCausalLM, AutoTokenizer
        import numprune_export as ne

        name = "HuggingFaceTB/SmolLM2-135M"
        model = AutoModelForCausalLM.from_pretrained(name)
        tokenizer = AutoTokenizer.from_pretrained(name)
        pruned = ne.prune(model, tokenizer, "speeches.txt", keep=0.8)
        pruned.model.generate(**tokenizer("Once", return_tensors="pt"))
        ```
    """
    from numprune_export.pipeline.live import prune_live

    chosen = {"keep": keep, "method": method, **(settings or {})}
    live = prune_live(model, tokenizer, texts, chosen, _observer(progress))
    return PrunedModel(live.model, tokenizer, live.plan, live.recipe)


def load(
    path: str | Path, *, dtype: torch.dtype | None = None, verify_hashes: bool = False
) -> PreTrainedModel:
    """Load a pruned checkpoint as a plain transformers model in eval mode, on the CPU.

    Args:
        path: A folder that `save`, a run, or `save_pretrained` of a pruned model wrote.
        dtype: Floating-point type of the weights; None: as saved.
        verify_hashes: Also compare the sha256 of every file with the folder's manifest.

    Raises:
        InputError: the folder is not one of ours, or its weights are missing or damaged.
    """
    from numprune_export.models.checkpoint.load import load as load_checkpoint

    return load_checkpoint(path, dtype=dtype, verify_hashes=verify_hashes)


def save(pruned: PrunedModel, folder: str | Path) -> Path:
    """Write a pruned model as a folder that reloads anywhere: weights, config, tokenizer, manifest.

    Args:
        pruned: See `prune`.
        folder: New, or empty.

    Returns:
        The folder.

    Raises:
        OutputError: the folder is not empty, or it cannot be written.
    """
    from numprune_export.models.checkpoint.save import save as save_checkpoint
    from numprune_export.models.families import family_of

    place = _new_folder(folder)
    family = family_of(str(pruned.model.config.model_type), None)
    method = pruned.recipe.model_dump(mode="json", include=_METHOD)
    record = {"method": method, "plan": {"keep": pruned.keep, "edited": False}}
    save_checkpoint(pruned.model, pruned.tokenizer, family, place, record)
    return place


_METHOD = {"keep", "query_heads", "rounds", "generated_text", "score", "allocate", "compensate"}


def export(
    model: PreTrainedModel | PrunedModel,
    target: str,
    folder: str | Path,
    settings: Mapping[str, Any] | None = None,
) -> Artifact:
    """Export a model, dense or pruned.

    Args:
        model: Of a supported family.
        target: `onnx`, `onnx-cuda`, `trt`, `trt-rtx`, or a target that another package registers.
        folder: New, or empty.
        settings: What a recipe may say under `targets.<target>`.

    Returns:
        The artifact; `artifact.folder / artifact.entry` is the file that a runtime opens.

    Raises:
        RecipeError: there is no such target or setting.
        MissingExtraError: the target's runtime is not installed.
        UnsupportedModelError: the target cannot express the model.
        OutputError: the folder is not empty, or it cannot be written.
    """
    from numprune_export.export import targets
    from numprune_export.export.exporter import require_network
    from numprune_export.models.device import CPU, on
    from numprune_export.models.families import family_of

    exporter = targets.find(target)
    chosen = targets.settings_for(exporter, dict(settings or {}))
    targets.require_ready(exporter)
    network = on(_plain(model), CPU)
    family = family_of(str(network.config.model_type), None)
    require_network(exporter, family.kind)
    return exporter.export(family.network(network), _new_folder(folder), chosen)


def compare(
    first: PreTrainedModel | PrunedModel,
    second: PreTrainedModel | PrunedModel,
    texts: str | Path | Sequence[str],
    tokenizer: PreTrainedTokenizerBase | None = None,
    windows: tuple[int, int] = (16, 256),
) -> ModelComparison:
    """Perplexity of two language models and the divergence of the second from the first.

    Args:
        first: The reference, for example the dense model.
        second: Of the same vocabulary.
        texts: Held-out text: strings, or the path of a text or JSONL file.
        tokenizer: None: that of a `PrunedModel` among the two.
        windows: At most this many windows, of this many tokens each.

    Raises:
        InputError: there is no tokenizer, or too little text.
        NumericalError: logits are not finite.
    """
    from numprune_export.pipeline.compare_models import compare_models

    own = (each.tokenizer for each in (first, second) if isinstance(each, PrunedModel))
    chosen = tokenizer or next((each for each in own if each is not None), None)
    if chosen is None:
        raise InputError("no tokenizer to read the texts by", hint="give `tokenizer`")
    measured = compare_models(_plain(first), _plain(second), chosen, texts, windows)
    return ModelComparison(*measured)


def run(
    recipe: str | Path | Named,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | Observer | None = None,
) -> Report:
    """Run a recipe: prune, reload, export, validate, benchmark. The command line's `run` calls this.

    Args:
        recipe: A recipe file, the name of a shipped recipe, or what `recipe.runnable` returns.
        out: The run folder; None: `runs/<recipe>`. A run that was stopped goes on in its folder.
        settings: Keys of the recipe to change, dotted: `{"keep": 0.7}`. Not with a `Named` recipe.
        progress: A callback as in `prune`, or an Observer.

    Returns:
        The report, also written into the run folder as report.json, report.md and report.html.

    Raises:
        NumpruneError: one of its kinds; see `numprune_export.core.errors`.
    """
    from numprune_export import pipeline
    from numprune_export.recipe.lookup import Named, runnable

    named = recipe
    if not isinstance(named, Named):
        changes = [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]
        named = runnable(str(recipe), changes)
    folder = Path("runs") / named.name if out is None else Path(out)
    search = (named.folder, Path.cwd())
    return pipeline.run(
        named.recipe, name=named.name, folder=folder, search=search, observer=_observer(progress)
    )


def _observer(progress: Progress | Observer | None) -> Observer:
    if progress is None:
        return Silent()
    return CallbackObserver(progress) if callable(progress) else progress


def _plain(model: PreTrainedModel | PrunedModel) -> PreTrainedModel:
    return model.model if isinstance(model, PrunedModel) else model


def _new_folder(folder: str | Path) -> Path:
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        taken = any(place.iterdir())
    except OSError as error:
        raise OutputError(
            f"`{place}` cannot be made: {error.strerror}", hint="give another folder"
        ) from None
    if taken:
        raise OutputError(f"`{place}` is not an empty folder", hint="give a new folder")
    return place
