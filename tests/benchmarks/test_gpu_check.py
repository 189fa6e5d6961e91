"""The script that checks a GPU host, as far as it goes without one: the same code, on the CPU."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from zygote import zygote

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scripts(monkeypatch):
    """The scripts import each other as files of one folder."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def check(out, *arguments, **environment):
    """From another folder and with no PYTHONPATH: the script finds its checkout itself."""
    inherited = {key: setting for key, setting in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), str(out), *arguments],
        cwd=out.parent,
        env={**inherited, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads((out / "gpu-check.json").read_text())


def test_without_a_gpu_it_says_so_in_both_files_and_exits_8(tmp_path):
    code, content = check(tmp_path / "out", CUDA_VISIBLE_DEVICES="")
    assert code == 8
    assert content["verdict"].startswith("No CUDA device, nothing ran")
    assert content["machine"]["packages"]["torch"]
    outcomes = {part["name"]: (part["status"], part["reason"]) for part in content["parts"]}
    assert outcomes.pop("look") == ("passed", "")
    assert len(outcomes) == 5
    assert set(outcomes.values()) == {("skipped", "no CUDA device")}
    page = (tmp_path / "out" / "gpu-check.md").read_text()
    assert "No CUDA device" in page
    assert "| recipe smoke | skipped | 0 s | no CUDA device |" in page
    assert "target `trt`" in page


def forked(arguments, *, limit_s, log, real):
    """As `gpu_parts.python`, which is `real`, in a fork of a process that has the libraries."""
    import gpu_parts

    if arguments[:2] == ["-m", "pytest"]:  # refuses to start where its plugins are imported already
        return real(arguments, limit_s=limit_s, log=log)
    started, environment = time.monotonic(), gpu_parts.environment(log.parent)
    forks = zygote(os.getpid())
    if arguments[:2] == ["-m", "numprune_export"]:
        code, out, err = forks.command(arguments[2:], ROOT, environment)
    else:
        code, out, err = forks.script(arguments, ROOT, environment)
    log.write_text(err)
    lines = [*out.splitlines(), *err.splitlines()]
    return gpu_parts.Finished(code, out, lines, time.monotonic() - started)


@pytest.mark.slow
def test_a_rehearsal_runs_every_part_on_the_cpu(scripts, tmp_path, monkeypatch):
    import gpu_check
    import gpu_parts

    monkeypatch.setattr(gpu_parts, "python", partial(forked, real=gpu_parts.python))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    out = tmp_path / "out"
    code = gpu_check.main(
        [
            *(str(out), "--device", "cpu", "--shape", "tiny", "--rows", "onnx", "--minutes", "20"),
            *("--tests", str(ROOT / "tests" / "measure" / "gpu")),
        ]
    )
    content = json.loads((out / "gpu-check.json").read_text())
    assert code == 0, content["parts"]
    assert content["verdict"].startswith("Rehearsal on the CPU, nothing of it ran on a GPU")
    parts = {part["name"]: part for part in content["parts"]}
    assert parts["tests"]["reason"] == "every test skipped itself"
    assert parts["tests"]["details"]["tests"] > 0
    assert set(parts["tests"]["details"]["skipped"].values()) == {"no CUDA device"}
    assert parts["recipe smoke"]["status"] == "passed"
    assert json.loads((tmp_path / "out" / "smoke.json").read_text())["recipe_name"] == "smoke"
    details = parts["speed onnx"]["details"]
    cases = [(case["keep"], case["batch"]) for case in details["cases"]]
    assert cases == [(0.5, 1)]
    of = details["cases"][0]["metrics"]
    assert of["latency.onnx.decode.speedup"]["value"] > 0
    assert of["latency.onnx.prefill.ideal"]["value"] == pytest.approx(2, rel=0.05)
    page = (tmp_path / "out" / "gpu-check.md").read_text()
    assert "| onnx (cpu, float32) | 0.5 | 1 | 16 | decode |" in page
    steps = [row["step"] for row in parts["pruning"]["details"]["steps"]]
    assert steps == ["write shards", "open", "moments", "gradients", "score", "repair"]
    assert "## Pruning, block by block" in page
    assert "1.74x" in page


def test_the_7b_shape_is_llamas_and_keep_is_of_heads_and_channels(scripts):
    from random_decoder import SHAPES, random_decoder

    assert SHAPES["7b"].parameters == pytest.approx(6_738_415_616, rel=1e-4)  # LLaMA-7B's own count
    block = replace(SHAPES["7b"], layers=1)
    models = [
        random_decoder(block, keep, dtype=torch.float16, device="meta", positions=2048)
        for keep in (1.0, 0.5, 0.8)
    ]
    assert models[0].num_parameters() == pytest.approx(block.parameters, rel=1e-4)
    layers = [model.model.layers[0] for model in models]
    assert [layer.self_attn.q_proj.out_features for layer in layers] == [4096, 2048, 26 * 128]
    assert [layer.self_attn.k_proj.out_features for layer in layers] == [4096, 2048, 26 * 128]
    assert [layer.mlp.up_proj.out_features for layer in layers] == [11008, 5504, 8808]


def test_random_weights_are_finite_and_everywhere_different(scripts):
    from random_decoder import SHAPES, random_decoder

    model = random_decoder(SHAPES["tiny"], 0.5, dtype=torch.float32, device="cpu", positions=64)
    with torch.no_grad():
        logits = model(torch.arange(8)[None]).logits
    assert torch.isfinite(logits).all()
    assert logits.std() > 0
    first, second = model.model.layers
    assert not torch.equal(first.mlp.up_proj.weight, second.mlp.up_proj.weight)
    assert first.mlp.up_proj.weight.std() == pytest.approx(0.02, rel=0.05)


def test_a_part_that_hangs_is_ended_with_all_it_started(scripts, tmp_path):
    import gpu_parts

    code = (
        "import subprocess, sys, time; print('begun', flush=True);"
        " subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    )
    done = gpu_parts.python(["-c", code], limit_s=1.5, log=tmp_path / "log")
    assert done.code is None
    assert done.seconds < 20
    outcome = gpu_parts.failure("part", done, 1.5)
    assert (outcome.status, outcome.reason) == ("failed", "not done after 2 s")
    assert outcome.output == ["begun"]


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("raise ValueError('wrong')", "failed", "ValueError: wrong"),
        ("raise ValueError('wrong\\n\\nSet THIS=1 for more')", "failed", "ValueError: wrong"),
        (
            "import sys; sys.stderr.write('error: x is y\\nhint: z\\n'); sys.exit(4)",
            "failed",
            "error: x is y",
        ),
        ("import os; os.abort()", "failed", "ended by signal 6 (SIGABRT)"),
        ("import sys; sys.stderr.write('too small'); sys.exit(8)", "skipped", "too small"),
        ("raise SystemExit(3)", "failed", "exit code 3"),
    ],
)
def test_a_part_that_fails_says_why(code, status, reason, scripts, tmp_path):
    import gpu_parts

    done = gpu_parts.python(["-c", code], limit_s=60, log=tmp_path / "log")
    outcome = gpu_parts.failure("part", done, 60)
    assert (outcome.status, outcome.reason) == (status, reason)


def test_a_test_run_is_read_from_its_xml(scripts, tmp_path):
    import gpu_parts

    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite><testcase classname="a" name="ok"/>'
        '<testcase classname="a" name="bad"><failure message="assert 1 == 2&#10;more">x</failure>'
        '</testcase><testcase classname="a" name="not"><skipped message="no pynvml"/></testcase>'
        '<testcase classname="b" name="broken"><error message="collection failure"/></testcase>'
        "</testsuite></testsuites>"
    )
    assert gpu_parts.junit(tmp_path / "tests.xml") == {
        "tests": 4,
        "passed": 1,
        "failed": {"a::bad": "assert 1 == 2", "b::broken": "collection failure"},
        "skipped": {"a::not": "no pynvml"},
    }


def test_what_is_not_installed_is_named(scripts):
    import gpu_check

    options = gpu_check.parse(["out"])
    machine = {
        "torch_cuda": {"runtime": "13.0", "device": "x"},
        "gpu": None,
        "missing": ["torch", "pydantic"],
        "targets": {},
    }
    assert gpu_check.refusal(options, machine).endswith("pip install torch")
    assert gpu_check.refusal(options, {**machine, "missing": []}) is None
    assert gpu_check.refusal(options, {}) == "this machine could not be looked at"
    # PyTorch's own rows go without the package's other needs; recipes do not, and say which.
    lacking = {**machine, "missing": ["pydantic"]}
    assert gpu_check.refusal(options, lacking) is None
    told = list(gpu_check.recipes(options, Path(), lacking, 0.0))
    assert [outcome.status for outcome in told] == ["skipped", "skipped"]
    assert all(outcome.reason.endswith("pip install pydantic") for outcome in told)


@pytest.mark.slow
def test_the_scripts_need_no_pydantic_for_pytorchs_rows(tmp_path):
    """As on a host that has PyTorch and transformers and no network."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'pydantic':
            raise ModuleNotFoundError("No module named 'pydantic'", name='pydantic')
sys.meta_path.insert(0, Absent())
import gpu_speed, gpu_rows, gpu_machine
options = gpu_speed.parse(["torch", "out", "--device", "cpu", "--shape", "tiny"])
assert gpu_rows.make(options, 0.5, "meta").num_parameters() > 0
assert gpu_machine.gpu_state() is None
"""
    path = [str(ROOT / "benchmarks"), str(ROOT), str(ROOT / "exporters")]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_only_targets_that_can_run_here_are_run(scripts):
    import gpu_check

    def target(device, ready=True, cannot_run=None):
        return {"device": device, "ready": ready, "cannot_run": cannot_run, "detail": "d"}

    machine = {
        "targets": {
            "onnx": target("cpu"),
            "onnx-cuda": target("cuda"),
            "trt": target("cuda", ready=False),
            "trt-rtx": target("cuda", cannot_run="refused"),
        }
    }
    options = gpu_check.parse(["out"])
    assert gpu_check.runnable(options, machine) == ["onnx-cuda", "onnx"]
    assert gpu_check.runnable(options, machine, also_cpu=False) == ["onnx-cuda"]
    assert gpu_check.runnable(gpu_check.parse(["out", "--device", "cpu"]), machine) == ["onnx"]
    del machine["targets"]["onnx-cuda"], machine["targets"]["onnx"]
    assert gpu_check.why_no_target(options, machine) == "trt: d; trt-rtx: refused"
