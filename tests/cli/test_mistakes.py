"""Mistakes of recipes, options and paths are answered all at once, before PyTorch is imported."""

import json
import subprocess
import sys

import pytest
from small import small_recipe

HEAVY = ("torch", "transformers", "onnx", "onnxruntime", "matplotlib", "datasets")
ANSWER = f"""
import sys
from numprune_export.cli import app
try:
    app.main()
except SystemExit as exit_:
    print("code", exit_.code)
print("loaded", [name for name in {HEAVY!r} if name in sys.modules])
"""


def answer(folder, *arguments):
    """Exit code, errors and what was imported."""
    done = subprocess.run(
        [sys.executable, "-c", ANSWER, *map(str, arguments)],
        capture_output=True, text=True, cwd=folder, check=True,
    )  # fmt: skip
    *out, code, loaded = done.stdout.splitlines()
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    hints = [line for line in done.stderr.splitlines() if line.startswith("hint: ")]
    assert len(errors) == len(hints) > 0, done.stderr
    return int(code.removeprefix("code ")), errors, loaded.removeprefix("loaded "), out


@pytest.mark.parametrize(
    ("arguments", "code", "messages"),
    [
        (["run", "smok"], 2, ["no recipe `smok`"]),
        (["run", "small.yaml", "--set", "keep"], 2, ["`--set keep` is not"]),
        (
            ["run", "small.yaml", "--set", "kep=1", "--set", "keep=7", "--target", "onx"],
            2,
            ["`keep`: must be at most 1", "unknown key `kep`", "unknown export target `onx`"],
        ),
        (
            ["run", "small.yaml", "--set", "targets.onnx.grph=x", "--set", "targets.onnx.dtype=y"],
            2,
            ["`targets.onnx.dtype`", "`targets.onnx.grph`"],
        ),
        (
            ["run", "small.yaml", "--set", "model=nowhere", "--set", "calibration.texts=[a, b]"],
            4,
            ["no model at `nowhere`", "text file `a`", "text file `b`"],
        ),
        (
            [
                "run",
                "small.yaml",
                "--set",
                "score=fisher",
                "--set",
                "model=nowhere",
                "--out",
                "full",
            ],
            4,
            ["no model at `nowhere`", "`full` is not empty"],
        ),
        (
            ["run", "small.yaml", "--set", "allocate=latency", "--set", "score=fisher"],
            2,
            ["`score: fisher` needs a model with a task head", "supported for encoders only"],
        ),
        (
            ["sweep", "small.yaml", "--keep", "0.9,0.8", "--score", "wanda,flop"],
            2,
            ["`score`: unknown method"],
        ),
        (["inspect", "nowhere"], 4, ["no model at `nowhere`"]),
        (["validate", "nowhere"], 4, ["is not a run folder"]),
        (["bench", "nowhere"], 4, ["no model at `nowhere`"]),
        (["compare", "nowhere", "neither"], 4, ["no model at `nowhere`", "no model at `neither`"]),
        (["verify", "nowhere"], 4, ["nowhere"]),
        (["package", "nowhere", "--out", "x"], 4, ["nowhere"]),
        (["check", "nowhere"], 4, ["nowhere"]),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_mistakes_are_answered_without_torch(tmp_path, arguments, code, messages):
    small_recipe(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    got, errors, loaded, out = answer(tmp_path, *arguments)
    assert (got, loaded, out) == (code, "[]", []), errors
    assert len(errors) == len(messages), errors
    for error, message in zip(errors, messages, strict=True):
        assert message in error
    assert sorted(tmp_path.rglob("*")) == before


def test_events_tell_further_mistakes_too(tmp_path):
    recipe = small_recipe(tmp_path, kep=1, keep=7)
    code, _, loaded, out = answer(tmp_path, "run", recipe, "--json")
    (event,) = map(json.loads, out)
    assert (code, loaded, event["event"]) == (2, "[]", "error")
    assert "`keep`" in event["message"]
    (further,) = event["further"]
    assert "`kep`" in further["message"]
    assert further["exit_code"] == 2
