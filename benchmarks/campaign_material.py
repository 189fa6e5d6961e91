"""What the campaign damages: the shipped models, a finished run, and files made from them."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import torch
import transformers
from campaign_mutations import damaged_bytes, replaced
from safetensors.torch import load_file

from numprune_export.data.labelled.tokenize import Reading
from numprune_export.recipe import builtin_dir

SMALL = (
    "calibration.sequences=8", "calibration.tokens_per_sequence=64", "calibration.batch=8",
    "evaluation.sequences=4", "evaluation.tokens_per_sequence=48", "evaluation.batch=4",
    "benchmark={prefill: 8, past: 8, decode_steps: 2, samples: 5, warmup: 1}", "threads=1",
)  # fmt: skip
"""Changes to the recipe `smoke` that shorten it to a few seconds."""
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_WORDS = [f"w{number}" for number in range(59)]
GGUF_METADATA: dict[str, tuple[int, Any]] = {
    "general.architecture": (8, "llama"),
    "general.name": (8, "tiny"),
    "llama.block_count": (4, 2),
    "llama.context_length": (4, 128),
    "llama.embedding_length": (4, 32),
    "llama.feed_forward_length": (4, 48),
    "llama.attention.head_count": (4, 4),
    "llama.attention.head_count_kv": (4, 2),
    "llama.attention.layer_norm_rms_epsilon": (6, 1e-5),
    "llama.rope.freq_base": (6, 10000.0),
    "llama.rope.dimension_count": (4, 8),
    "llama.vocab_size": (4, 64),
    "tokenizer.ggml.model": (8, "gpt2"),
    "tokenizer.ggml.tokens": (9, ["<s>", "</s>", "a", "b", "ab", *_WORDS]),
    "tokenizer.ggml.merges": (9, ["a b"]),
    "tokenizer.ggml.bos_token_id": (4, 0),
    "tokenizer.ggml.eos_token_id": (4, 1),
}
_BLOCK = {
    "attn_q": (32, 32), "attn_k": (32, 16), "attn_v": (32, 16), "attn_output": (32, 32),
    "ffn_gate": (32, 48), "ffn_up": (32, 48), "ffn_down": (48, 32), "attn_norm": (32,), "ffn_norm": (32,),
}  # fmt: skip
GGUF_TENSORS = (
    ("token_embd.weight", (32, 64)),
    ("output_norm.weight", (32,)),
    ("output.weight", (32, 64)),
    *(
        (f"blk.{block}.{name}.weight", shape)
        for block in range(2)
        for name, shape in _BLOCK.items()
    ),
)


@dataclass(frozen=True)
class Material:
    """Made once, in `folder`."""

    folder: Path
    llama: Path = builtin_dir() / "tiny-llama"
    bert: Path = builtin_dir() / "tiny-bert"

    @cached_property
    def run(self) -> Path:
        """The folder of a finished run of `smoke`, shortened; an earlier one is taken."""
        out = self.folder / "run"
        if not (out / "report.json").is_file():
            command(["run", "smoke", "--out", str(out), "--quiet", *changes(SMALL)])
        return out

    @cached_property
    def recipes(self) -> Path:
        """The shipped recipes with their models and data; texts are cut, which are tokenised each time."""
        folder = self.folder / "recipes"
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for path in builtin_dir().glob("*.yaml"):
            shutil.copyfile(path, folder / path.name)
        for path in (builtin_dir() / "data").iterdir():
            text = path.read_bytes()
            (folder / "data" / path.name).write_bytes(
                text[:40_000] if path.suffix == ".txt" else text
            )
        for path in (self.llama, self.bert):
            linked(path, folder / path.name)
        return folder

    @cached_property
    def run_files(self) -> tuple[str, ...]:
        """All files of the run except its lock, relative to it."""
        files = (
            path.relative_to(self.run).as_posix() for path in self.run.rglob("*") if path.is_file()
        )
        return tuple(sorted(name for name in files if "lock" not in name))

    @cached_property
    def reading(self) -> Reading:
        """How tiny-bert reads text."""
        config = transformers.AutoConfig.from_pretrained(self.bert)
        return Reading.of(transformers.AutoTokenizer.from_pretrained(self.bert), config, 128)

    @cached_property
    def tokenizer(self) -> Any:
        return transformers.AutoTokenizer.from_pretrained(self.llama)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Labelled texts."""
        lines = (builtin_dir() / "data" / "presidents_train.jsonl").read_text().splitlines()[:12]
        return [json.loads(line) for line in lines]

    @cached_property
    def text(self) -> str:
        return (builtin_dir() / "data" / "sotu_1980_2010.txt").read_text()[:3000]

    @cached_property
    def pickled(self) -> bytes:
        """tiny-llama's weights as `torch.save` writes them."""
        buffer = io.BytesIO()
        torch.save(load_file(self.llama / "model.safetensors"), buffer)
        return buffer.getvalue()


def command(arguments: list[str], **environment: str) -> None:
    """The command line, in a process of its own.

    Raises:
        CalledProcessError: it failed.
    """
    start = [sys.executable, "-m", "numprune_export", *arguments]
    subprocess.run(start, check=True, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)


def changes(settings: tuple[str, ...]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def linked(source: Path, folder: Path, *, without: str = "") -> Path:
    """A copy of a folder that shares its files' content, by hard links where the disk allows it."""
    shutil.copytree(
        source, folder, copy_function=_link, ignore=shutil.ignore_patterns(*filter(None, [without]))
    )
    return folder


def _link(source: str, destination: str) -> None:
    try:
        os.link(source, destination)
    except OSError:  # another disk
        shutil.copy2(source, destination)


def damaged_pickle(rng: Random, weights: bytes) -> bytes:
    """Damage of the pickle inside a valid archive, or a pickle that calls a function."""
    source, target = zipfile.ZipFile(io.BytesIO(weights)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                call = b"cos\nmkdir\n(X\x0b\x00\x00\x00../../calledtR."
                content = call if rng.random() < 0.1 else damaged_bytes(rng, content)
            archive.writestr(name, content)
    return target.getvalue()


def model_with(folder: Path, source: Path, files: Mapping[str, bytes]) -> Path:
    """A model folder with some of its files replaced."""
    model = linked(source, folder / "model")
    for name, content in files.items():
        replaced(model / name, content)
    return model
