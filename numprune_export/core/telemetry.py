"""Usage reporting of the libraries underneath is off unless the user turned it on.

ONNX Runtime's packages report to their vendor: the import alone writes `.ses` into the temporary
folder, and a process that lives for some seconds looks up a collector's address. The libraries read
these variables when they are imported, and child processes inherit them.
"""

from __future__ import annotations

import os

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, transformers, datasets
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray
}
"""Environment variable to the value that turns reporting off."""


def switch_off() -> None:
    """Set each variable that is not set. Call it before any of the libraries is imported."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
