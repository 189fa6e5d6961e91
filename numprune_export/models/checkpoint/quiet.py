"""Silence for transformers while it loads: what matters is checked and raised by the caller."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, and of the log only errors; the settings before are put back."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # A size of 0 is refused by name when the model is built.
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
