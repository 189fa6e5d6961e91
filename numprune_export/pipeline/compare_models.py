"""Comparison of two language models in memory on the same text windows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from numprune_export.core.errors import InputError
from numprune_export.data.corpus import Windows, draw
from numprune_export.data.corpus_settings import Corpus
from numprune_export.measure.quality.divergence import DenseLogits
from numprune_export.measure.quality.perplexity import perplexity
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.models.families import family_of

BATCH = 4
"""Windows per forward pass."""


def compare_models(
    first: PreTrainedModel,
    second: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: str | Path | Sequence[str],
    windows: tuple[int, int],
) -> tuple[tuple[float, float], float, tuple[int, int], int]:
    """Compare perplexity, divergence and size.

    Args:
        first: The reference. Put into eval mode during the comparison, then restored.
        second: Put into eval mode likewise.
        tokenizer: Of both models.
        texts: Strings, or a text file.
        windows: Maximum number of windows, and tokens per window.

    Returns:
        Both perplexities, KL(first ‖ second) in nats, both parameter counts, and the number of scored
        tokens.
    """
    modes = [(model, model.training) for model in (first, second)]
    try:
        for model, _ in modes:
            model.eval()
        drawn = _windows(tokenizer, texts, windows, int(first.config.vocab_size))
        scores = [_perplexity(model, drawn) for model, _ in modes]
        family = family_of(str(first.config.model_type), None)
        reference = DenseLogits.of(first, family, drawn, batch=BATCH)
        divergence = reference.divergence(second).value
    finally:
        for model, training in modes:
            model.train(training)
    sizes = (int(first.num_parameters()), int(second.num_parameters()))
    return (scores[0], scores[1]), divergence, sizes, int(drawn.tokens[:, 1:].size)


def _perplexity(model: PreTrainedModel, windows: Windows) -> float:
    with TorchRunner(model, threads=None) as runner:
        return perplexity(runner, windows.tokens, batch=BATCH).value


def _windows(
    tokenizer: PreTrainedTokenizerBase,
    texts: str | Path | Sequence[str],
    windows: tuple[int, int],
    embeddings: int,
) -> Windows:
    count, length = windows
    with tempfile.TemporaryDirectory(prefix="numprune-") as name:
        if isinstance(texts, str | Path):
            path = Path(texts).absolute()
        else:
            path = Path(name) / "texts.jsonl"
            rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
            path.write_text(rows, encoding="utf-8")
        corpus = Corpus(texts=(str(path),), sequences=1, tokens_per_sequence=length)
        return _available(corpus, tokenizer, embeddings, count)


def _available(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, embeddings: int, count: int
) -> Windows:
    """Up to `count` windows: the count is halved until the text is long enough."""
    wanted = count
    while wanted > 1:
        try:
            several = corpus.model_copy(update={"sequences": wanted})
            return draw(several, tokenizer, (Path(),), embeddings=embeddings)
        except InputError:
            wanted //= 2
    return draw(corpus, tokenizer, (Path(),), embeddings=embeddings)
