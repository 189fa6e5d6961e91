"""Call a function periodically while the main thread works."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_S = 1.0


@contextmanager
def heartbeat(beat: Callable[[], None], *, every_s: float = EVERY_S) -> Iterator[None]:
    """Call `beat` every `every_s` seconds from its own thread until the context ends."""
    finished = threading.Event()

    def run() -> None:
        while not finished.wait(every_s):
            beat()

    thread = threading.Thread(target=run, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
