"""The libraries underneath report nothing to anyone, in this process and in those it starts."""

import os
import subprocess
import sys

import pytest

from numprune_export.core.telemetry import SWITCHES, switch_off

IMPORTS = {
    "package": "import numprune_export, onnxruntime",
    "exporters": "import numprune_exporters.onnx.standard_steps",
    "child": (
        "import os, subprocess, sys, numprune_export\n"
        "subprocess.run([sys.executable, '-c', 'import onnxruntime'], check=True)"
    ),
}


def without_switches(folder):
    """This process's environment as a user has it, temporary files in `folder`."""
    kept = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    return {**kept, "TMPDIR": str(folder)}


@pytest.mark.parametrize("code", IMPORTS.values(), ids=IMPORTS)
def test_the_runtime_leaves_no_session_file(code, tmp_path):
    """ONNX Runtime writes `.ses` into the temporary folder at its import if its telemetry is on."""
    subprocess.run([sys.executable, "-c", code], env=without_switches(tmp_path), check=True)
    assert list(tmp_path.iterdir()) == []


def test_what_the_user_set_is_kept(monkeypatch):
    for name in SWITCHES:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    switch_off()
    switches = {name: os.environ[name] for name in SWITCHES}
    assert switches == {**SWITCHES, "HF_HUB_DISABLE_TELEMETRY": "0"}
