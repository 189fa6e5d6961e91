"""Windows of the general text that comes with the package: all kinds in equal parts, evenly mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from numprune_export.core.errors import InputError
from numprune_export.data import general_files
from numprune_export.data.corpus import Drawn, tokenised
from numprune_export.data.corpus_settings import Corpus
from numprune_export.data.general_files import Builtin
from numprune_export.data.interleaving import interleaved

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def read(
    corpus: Corpus, builtin: Builtin, tokenizer: PreTrainedTokenizerBase, *, embeddings: int
) -> Drawn:
    """Draw windows of every kind; a kind with less text than its part gives all that it has.

    Args:
        corpus: Number, length and seed of the windows.
        builtin: All kinds, or one of them.
        tokenizer: The model's tokenizer.
        embeddings: Number of the model's embeddings.

    Raises:
        InputError: all kinds together are too short, or the model has no embedding for a token.
    """
    kinds = [
        tokenised(
            corpus.model_copy(update={"texts": (str(path),), "dataset": None, "field": "text"}),
            tokenizer,
            (),
            embeddings=embeddings,
        )
        for path in general_files.files(builtin)
    ]
    held = [kind.available for kind in kinds]
    if sum(held) < corpus.sequences:
        raise InputError(
            f"the text of the package, `{builtin}`, is too short for {corpus.sequences} windows of"
            f" {corpus.tokens_per_sequence} tokens",
            hint=f"ask for at most {sum(held)} windows of it, or add text of your own",
        )
    counts = divided(corpus.sequences, held)
    drawn = [kind.drawn(count) for kind, count in zip(kinds, counts, strict=True) if count]
    windows = interleaved([part.windows for part in drawn])
    return Drawn(windows, sum(part.documents for part in drawn))


def divided(total: int, held: Sequence[int]) -> tuple[int, ...]:
    """Divide windows into equal parts, as far as each kind reaches; the first ones get what is
    left over.

    >>> divided(10, [9, 2, 9])
    (4, 2, 4)
    >>> divided(5, [9, 9])
    (3, 2)
    """
    level = max(part for part in range(total + 1) if sum(_capped(part, held)) <= total)
    counts = _capped(level, held)
    longer = [at for at, most in enumerate(held) if most > level]
    for at in longer[: total - sum(counts)]:
        counts[at] += 1
    return tuple(counts)


def _capped(part: int, held: Sequence[int]) -> list[int]:
    return [min(part, most) for most in held]
