"""The surfaces that read input from outside: each makes a damaged input and the call that reads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml
from campaign_data import labelled, texts
from campaign_guard import Job
from campaign_material import (
    GGUF_METADATA,
    GGUF_TENSORS,
    TEMPLATE,
    Material,
    damaged_pickle,
    linked,
    model_with,
)
from campaign_mutations import (
    ODD,
    TOKENS,
    damaged_bytes,
    damaged_json,
    damaged_metadata,
    damaged_safetensors,
    damaged_text,
    damaged_tree,
    gguf,
    json_text,
    replaced,
)

from numprune_export.calibration.prompts import REQUESTS, prompts
from numprune_export.cli.app import app
from numprune_export.export import servers
from numprune_export.export.artifact import Artifact
from numprune_export.export.packaging import package
from numprune_export.models.checkpoint.load import load_source, load_tokenizer
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.checkpoint.tokenizer_files import read_tokenizer
from numprune_export.pipeline import opening
from numprune_export.pipeline.stages.allocate import read_plan
from numprune_export.provenance.reopening import reopen
from numprune_export.recipe import builtin_names, runnable
from numprune_export.workflows.estimate import inspection
from numprune_exporters.triton.served import request

Surface = Callable[[Random, Path, Material], Job]
_RUN_FILES = (
    "plan/plan.json",
    "manifest.json",
    "report.json",
    "recipe.yaml",
    "model/manifest.json",
)


def recipe_file(rng: Random, folder: Path, material: Material) -> Job:
    name = rng.choice(("smoke", "smoke-bert", rng.choice(builtin_names())))
    raw = (material.recipes / f"{name}.yaml").read_bytes()
    if rng.random() < 0.4:
        raw = rng.choice((damaged_text, damaged_bytes))(rng, raw)
    else:
        raw = json_text(damaged_tree(rng, yaml.safe_load(raw))).encode()  # JSON is YAML
    for name in ("tiny-llama", "tiny-bert", "data"):
        (folder / name).symlink_to(material.recipes / name)
    (folder / "damaged.yaml").write_bytes(raw)
    return partial(_start, str(folder / "damaged.yaml"), (), folder)


def settings(rng: Random, folder: Path, material: Material) -> Job:
    resolved = yaml.safe_load((material.run / "recipe.yaml").read_text())
    keys = [*_dotted(resolved), "method", "targets.onnx.graph", "", ".", "x", "keep.x.y"]
    given = tuple(f"{rng.choice(keys)}={_odd_text(rng)}" for _ in range(rng.randint(1, 2)))
    return partial(_start, str(material.recipes / "smoke.yaml"), given, folder)


def _start(name: str, given: Sequence[str], folder: Path) -> None:
    named = runnable(name, given)
    opening.check(named.recipe, search=(named.folder, folder))


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    inner = [name for key, value in tree.items() if isinstance(value, dict) for name in _dotted(value, f"{prefix}{key}.")]  # fmt: skip
    return [*(f"{prefix}{key}" for key in tree), *inner]


def _odd_text(rng: Random) -> str:
    token = rng.choice(TOKENS).decode(errors="surrogateescape")
    number = f"{rng.choice((0, 1, 2, 7, 64, 0.3, 1e-9, 10**6, 10**12))}"
    odd = json_text(rng.choice(ODD)), f"{rng.choice(ODD)!s:.400}"
    return rng.choice((*odd, token, number, number, "[[a]]", "{a: b}"))


def config(rng: Random, folder: Path, material: Material) -> Job:
    source = rng.choice((material.llama, material.bert, material.run / "model"))
    damaged = damaged_json(rng, json.loads((source / "config.json").read_text()))
    return partial(_load, model_with(folder, source, {"config.json": damaged}), rng.random() < 0.3)


def safetensors(rng: Random, folder: Path, material: Material) -> Job:
    source = rng.choice((material.llama, material.bert))
    damaged = damaged_safetensors(rng, (source / "model.safetensors").read_bytes())
    return partial(_load, model_with(folder, source, {"model.safetensors": damaged}), True)


def pickled(rng: Random, folder: Path, material: Material) -> Job:
    damage = rng.choice((damaged_bytes, damaged_pickle))
    weights = {"pytorch_model.bin": damage(rng, material.pickled)}
    model = model_with(folder, material.llama, weights)
    (model / "model.safetensors").unlink()
    return partial(_load, model, True)


def gguf_file(rng: Random, folder: Path, material: Material) -> Job:
    content = gguf(damaged_metadata(rng, GGUF_METADATA), GGUF_TENSORS)
    if rng.random() < 0.4:
        whole = gguf(GGUF_METADATA, GGUF_TENSORS)
        content = damaged_bytes(rng, whole[:2500]) + whole[2500:]
    (folder / "model.gguf").write_bytes(content)
    return partial(_load, folder / "model.gguf", rng.random() < 0.3)


def _load(model: Path, whole: bool) -> None:
    inspection.render(inspection.look(str(model), revision=None, search=()))
    source = resolve(str(model), revision=None, search=())
    load_tokenizer(source)
    if whole:
        load_source(source, torch.float32)


def run_folder(rng: Random, folder: Path, material: Material) -> Job:
    run = linked(material.run, folder / "run")
    name = rng.choice((*_RUN_FILES, rng.choice([path for path in material.run_files if path.endswith("stage.json")]), rng.choice(material.run_files)))  # fmt: skip
    content = (run / name).read_bytes()
    structured = name.endswith(".json") and rng.random() < 0.8
    damaged = damaged_json(rng, json.loads(content)) if structured else damaged_bytes(rng, content)
    replaced(run / name, damaged)
    if name == "plan/plan.json" and rng.random() < 0.7:
        return lambda: read_plan(run / "plan")
    if name == "report.json" and rng.random() < 0.7:
        return partial(_command, "check", run, "--baseline", material.run)
    return partial(_command, "verify", run)


def _command(*words: str | Path) -> None:
    app([str(word) for word in words], standalone_mode=False)


def artifact(rng: Random, folder: Path, material: Material) -> Job:
    place = linked(material.run / "artifacts" / "onnx" / "pruned", folder / "artifact")
    name = rng.choice(("model.onnx", "model.onnx", "model.onnx.data", Artifact.INDEX))
    content = (place / name).read_bytes()
    structured = name.endswith(".json") and rng.random() < 0.8
    damaged = damaged_json(rng, json.loads(content)) if structured else damaged_bytes(rng, content)
    replaced(place / name, damaged)
    if name != Artifact.INDEX and rng.random() < 0.7:
        index = json.loads((place / Artifact.INDEX).read_text())
        index["files"][name] = hashlib.sha256(damaged).hexdigest()
        replaced(place / Artifact.INDEX, json.dumps(index).encode())
    return lambda: reopen(place)


def tokenizer(rng: Random, folder: Path, material: Material) -> Job:
    settings = json.loads((material.llama / "tokenizer_config.json").read_text())
    settings["chat_template"] = TEMPLATE
    files = {"tokenizer_config.json": json.dumps(settings).encode()}
    part = rng.choice(("template", "settings", "tokenizer"))
    if part == "template":
        settings["chat_template"] = damaged_text(rng, TEMPLATE.encode()).decode(errors="replace")
        files["tokenizer_config.json"] = json.dumps(settings).encode()
    elif part == "settings":
        files["tokenizer_config.json"] = damaged_json(rng, settings)
    else:
        files["tokenizer.json"] = _damaged_tokenizer(rng, material.llama / "tokenizer.json")
    return partial(_chat, model_with(folder, material.llama, files), rng.choice(("auto", "chat")))


def _damaged_tokenizer(rng: Random, path: Path) -> bytes:
    """Mostly outside the vocabulary, which is nearly all of the file."""
    content = json.loads(path.read_text())
    model = content.pop("model") if rng.random() < 0.7 else None
    changed = damaged_tree(rng, content)
    if model is not None and isinstance(changed, dict):
        changed.setdefault("model", model)
    return json_text(changed).encode()


def _chat(model: Path, kind: Any) -> None:
    read = read_tokenizer(model)
    if read is not None:
        prompts(read, kind, REQUESTS[:3], 0.5, vocabulary=2048, tokens=512)


def served_request(rng: Random, folder: Path, material: Material) -> Job:
    values = {
        "text_input": "we", "max_tokens": 3, "temperature": 0.5, "top_k": 4, "top_p": 0.25, "seed": 1,
        "stop_words": ["a"], "stream": True, "exclude_input_in_output": False,
    }  # fmt: skip
    text = damaged_json(rng, values).decode(errors="surrogateescape")
    shape, tensor = rng.choice(((1, 1), (1, 0), (0, 1), (1,), (2, 1), (1, 3))), rng.choice(([[b"we"]], [[b"\xff"]], [[1, 2]]))  # fmt: skip

    def answer() -> None:
        given = request.parameters(text)
        if rng.random() < 0.3:
            given["text_input"] = request.single("text_input", shape, tensor)
        request.read(given, max_tokens=7)

    return answer


def server_settings(rng: Random, folder: Path, material: Material) -> Job:
    keys = (
        "name",
        "capacity",
        "max_tokens",
        "max_batch",
        "queue_delay_us",
        "instances",
        "threads",
        "x",
        "",
    )
    given = [f"{rng.choice(keys)}={_odd_text(rng)}" for _ in range(rng.randint(1, 2))]
    run, out = linked(material.run, folder / "run"), folder / "package"
    target, variant = rng.choice(("onnx", "onnx", "trt", "../x")), rng.choice(("pruned", "dense"))
    return lambda: package(
        run,
        out,
        server="triton",
        target=target,
        variant=variant,
        settings=servers.assignments(given),
    )


SURFACES: Mapping[str, Surface] = {
    "recipe": recipe_file, "set": settings, "config": config, "safetensors": safetensors, "bin": pickled,
    "gguf": gguf_file, "labelled": labelled, "corpus": texts, "run-folder": run_folder, "onnx": artifact,
    "tokenizer": tokenizer, "triton-request": served_request, "triton-settings": server_settings,
}  # fmt: skip
