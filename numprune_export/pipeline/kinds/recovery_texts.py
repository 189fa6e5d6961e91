"""Texts that a language model is recovered on, drawn from the calibration's sources."""

from __future__ import annotations

from numprune_export.core.errors import HubError, InputError
from numprune_export.data.corpus import Windows
from numprune_export.data.corpus_settings import Corpus
from numprune_export.data.interleaving import interleaved
from numprune_export.data.mix import DrawnSource, SourceReader
from numprune_export.pruning.recover.settings import Recover
from numprune_export.pruning.recover.training import RecoveryTexts


def recovery_texts(
    settings: Recover | None, calibration: Corpus, reader: SourceReader
) -> RecoveryTexts | None:
    """Windows of the calibration's sources, drawn with another seed, of which some of each source are
    held out.

    Raises:
        InputError, HubError: a source has too little text.
    """
    if settings is None:
        return None
    wanted = settings.sequences or -(-settings.tokens // calibration.tokens_per_sequence)
    held = settings.held_out * len(calibration.mix or (None,))
    more = {"sequences": wanted + held, "seed": calibration.seed + 1}
    try:
        sources = reader.shared(calibration.model_copy(update=more))
    except (InputError, HubError) as error:
        hint = f"{error.hint}; `recover.sequences` sets how many windows are drawn for it"
        raise type(error)(f"`recover`: {error}", hint=hint) from None
    split = [_split(source, settings.held_out) for source in sources]
    held_out = {source.name: last for source, (_, last) in zip(sources, split, strict=True)}
    return RecoveryTexts(interleaved([first for first, _ in split]), held_out, calibration.seed)


def _split(source: DrawnSource, held_out: int) -> tuple[Windows, Windows]:
    """All windows but the last ones, and those."""
    windows = source.windows
    count = len(windows.tokens)
    if count <= held_out:
        raise InputError(
            f"`recover`: source `{source.name}` has {count} windows, of which {held_out} are held out",
            hint="raise `recover.sequences` or the source's `share`, or lower `recover.held_out`",
        )
    return windows.part(slice(0, count - held_out)), windows.part(slice(count - held_out, count))
