"""The reliability campaign: its outcomes are told apart, its inputs repeat, its surfaces are reached."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from command import command, script

from numprune_export.core.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The scripts import each other as files of one folder."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def outcome(job, folder, **limits):
    from campaign_guard import guarded

    return guarded(job, allowed=(folder,), **limits)


def raising(error):
    def job():
        raise error

    return job


def test_outcomes_are_told_apart(tmp_path):
    assert outcome(lambda: None, tmp_path).kind == "ok"
    refused = outcome(raising(InputError("wrong", hint="mend it")), tmp_path)
    assert (refused.kind, refused.detail) == ("refused", "wrong")
    assert outcome(raising(InputError("wrong", hint="")), tmp_path).kind == "traceback"
    failed = outcome(raising(KeyError("x")), tmp_path)
    assert (failed.kind, failed.cause, failed.detail) == ("traceback", "KeyError", "'x'")
    killed = outcome(lambda: os.kill(os.getpid(), signal.SIGKILL), tmp_path)
    assert (killed.kind, killed.cause) == ("traceback", "ended by SIGKILL")
    assert outcome(lambda: os._exit(0), tmp_path).cause == "ended its process"
    assert outcome(raising(SystemExit(0)), tmp_path).kind == "traceback"


def test_a_failure_is_named_by_the_function_that_it_passed(tmp_path):
    from numprune_export.core.json_text import loads

    assert outcome(lambda: loads(3), tmp_path).cause.endswith(
        "in numprune_export.core.json_text.loads"
    )


def test_hangs_end(tmp_path, monkeypatch):
    import campaign_guard

    def count():
        while True:
            pass

    assert outcome(count, tmp_path, cpu_s=0.1).cause == "0.1 s of processor time"
    monkeypatch.setattr(campaign_guard, "STILL_S", 0.2)
    assert outcome(lambda: time.sleep(600), tmp_path).cause == "no processor time for 0.2 s"


def test_what_leaves_the_folder_is_seen(tmp_path):
    inside, outside = tmp_path / "given", tmp_path / "outside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    (inside / "code.py").write_text("x = 1")
    (tmp_path / "kept").write_text("")

    def swallowed():
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", 1), timeout=1)

    escapes = {
        "write": lambda: outside.write_text("x"),
        "link": lambda: (inside / "link" / "outside").write_text("x"),
        "relative": lambda: Path("../outside").mkdir(),
        "remove": lambda: (tmp_path / "kept").unlink(),
        "process": lambda: subprocess.run([sys.executable, "--version"], check=True),
        "socket": swallowed,
        "code": lambda: exec(compile("x = 1", str(inside / "code.py"), "exec")),
    }
    for name, job in escapes.items():
        assert outcome(job, inside).kind == "escape", name
    allowed = {
        "write": lambda: (inside / "new").write_text("x"),
        "relative": lambda: Path("folder").mkdir(),
        "read": lambda: (tmp_path / "given" / "new").read_text(),
    }
    for name, job in allowed.items():
        assert outcome(job, inside).kind == "ok", name


def test_damage_is_a_function_of_the_seed():
    from campaign_mutations import damaged_bytes, damaged_json, damaged_text

    tree = {"a": [1, 2, {"b": "text"}], "c": None, "d": 0.5}
    for damage, base in (
        (damaged_bytes, b"abc" * 50),
        (damaged_text, b"abc" * 50),
        (damaged_json, tree),
    ):
        drawn = [damage(Random(number), base) for number in range(20)]
        assert drawn == [damage(Random(number), base) for number in range(20)]
        assert len(set(drawn)) > 15
    assert tree == {"a": [1, 2, {"b": "text"}], "c": None, "d": 0.5}


@pytest.fixture(scope="module")
def small_smoke(tmp_path_factory):
    """The run that the campaign takes for its material."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        from campaign_material import SMALL, changes
    run = tmp_path_factory.mktemp("material") / "run"
    done = command("run", "smoke", "--out", str(run), "--quiet", *changes(SMALL))
    assert done.code == 0, done.err
    return run


@pytest.mark.slow
def test_every_surface_is_read(tmp_path, small_smoke):
    """From another folder: the script finds its checkout itself."""
    shutil.copytree(small_smoke, tmp_path / "out" / "work" / "run")
    arguments = ["--inputs", "13", "--kills", "0", "--seed", "3"]
    campaign = ROOT / "benchmarks" / "campaign.py"
    done = script(campaign, tmp_path / "out", *arguments, cwd=tmp_path)
    assert done.code == 0, done.out + done.err
    content = json.loads((tmp_path / "out" / "campaign.json").read_text())
    assert len(content["surfaces"]) == 13
    for row in content["surfaces"].values():
        assert row["inputs"] == 1 == row["ok"] + row["refused"]
    assert content["trials"] == []  # killed runs: tests/pipeline/test_kill.py
    assert "| gguf " in (tmp_path / "out" / "campaign.md").read_text()
    assert not (tmp_path / "out" / "work").exists()


@pytest.mark.slow
def test_undamaged_inputs_are_read_to_the_end(tmp_path, small_smoke):
    """Otherwise a refusal says nothing."""
    shutil.copytree(small_smoke, tmp_path / "run")
    code = """
import sys
from pathlib import Path
from random import Random
sys.path.insert(0, sys.argv[1])
import campaign, campaign_data, campaign_surfaces, json
from campaign_guard import outcome_of
from campaign_material import Material
for name in ("damaged_bytes", "damaged_text", "damaged_tree", "damaged_metadata"):
    for module in (campaign_data, campaign_surfaces):
        setattr(module, name, lambda rng, data: data)
campaign_surfaces.damaged_json = lambda rng, tree: json.dumps(tree).encode()
campaign_surfaces.damaged_safetensors = campaign_surfaces.damaged_pickle = lambda rng, data: data
campaign_surfaces.builtin_names = lambda: ["smoke", "smoke-bert"]
campaign_surfaces.TOKENS = campaign_surfaces.ODD = (b"",)
place = Path(sys.argv[2])
material = Material(place)
for name, surface in campaign_surfaces.SURFACES.items():
    if name in ("set", "triton-settings"):
        continue  # made of odd values alone
    for number in range(3):
        folder = place / f"{name}-{number}"
        folder.mkdir()
        outcome = outcome_of(surface(Random(number), folder, material))
        sys.stderr.write(f"{name} {number} {outcome.kind} {outcome.detail}\\n")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "benchmarks"), str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=3) for line in done.stderr.splitlines() if line]
    refused = {line[0] for line in lines if line[2] != "ok"}
    assert len(lines) == 33
    assert refused <= {"triton-request"}, lines  # tensors of another shape are drawn undamaged too
