"""Disable telemetry of third-party libraries unless the user enabled it.

ONNX Runtime reports to its vendor: importing it writes `.ses` into the temporary folder, and after
a few seconds the process resolves a collector's address. Libraries read these environment variables
on import; child processes inherit them.
"""

from __future__ import annotations

import os

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, transformers, datasets
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray
}
"""Environment variable to the value that disables telemetry."""


def switch_off() -> None:
    """Set each variable that is unset. Call this before importing any of the libraries."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
