"""Damaged labelled data and texts: JSON Lines, JSON, CSV, TSV, SQuAD, plain text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from campaign_guard import Job
from campaign_material import Material
from campaign_mutations import ODD, damaged_text, damaged_tree, json_text

from numprune_export.data import corpus
from numprune_export.data.corpus_settings import Corpus
from numprune_export.data.labelled.labels import Classes
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.data.tasks.sequence_task import SequenceTask
from numprune_export.data.tasks.span_task import SpanTask
from numprune_export.data.tasks.task import Task
from numprune_export.data.tasks.token_task import TokenTask

_TASKS = ("sequence", "number", "token", "span")
_FLAT = ("sequence", "number")
"""Their rows fit a table."""


def labelled(rng: Random, folder: Path, material: Material) -> Job:
    kind = rng.choice(_TASKS)
    suffix = rng.choice(
        (".jsonl", ".json", ".csv", ".tsv") if kind in _FLAT else (".jsonl", ".json")
    )
    rows = [_row(kind, row, number, suffix) for number, row in enumerate(material.rows)]
    (folder / f"rows{suffix}").write_bytes(
        _damaged_rows(rng, rows, suffix, articles=kind == "span")
    )
    data = LabelledData(files=(f"rows{suffix}",), batch=2, max_length=64, stride=16)
    classes = Classes(("O", "Clinton", "Bush", "Obama"))
    tasks: dict[str, Task] = {
        "sequence": SequenceTask(classes, False), "number": SequenceTask(classes, True),
        "token": TokenTask(classes), "span": SpanTask(),
    }  # fmt: skip
    task = tasks[kind]
    return lambda: task.require_varied(task.load(data, material.reading, (folder,)))


def _row(kind: str, row: Mapping[str, Any], number: int, suffix: str) -> dict[str, Any]:
    words = row["text"].split()[:20]
    start = row["text"].index(words[2])
    article = [{"text": words[2], "answer_start": start}]
    answer = article if suffix == ".json" else {"text": [words[2]], "answer_start": [start]}
    return {
        "sequence": {"text": row["text"], "label": row["label"]},
        "number": {"text": row["text"], "label": number / 2},
        "token": {
            "words": words,
            "tags": ["O", "Bush"] * (len(words) // 2) + ["O"] * (len(words) % 2),
        },
        "span": {"id": f"{number}", "question": "who?", "context": row["text"], "answers": answer},
    }[kind]


def _damaged_rows(rng: Random, rows: list[dict[str, Any]], suffix: str, *, articles: bool) -> bytes:
    if rng.random() < 0.6:
        changed = damaged_tree(rng, rows)
        kept = changed if isinstance(changed, list) else []
        rows = [row for row in kept if isinstance(row, dict)] or rows
        raw = _rows_text(rows, suffix, articles).encode(errors="surrogatepass")
        return raw if rng.random() < 0.8 else damaged_text(rng, raw)
    return damaged_text(rng, _rows_text(rows, suffix, articles).encode())


def _rows_text(rows: list[dict[str, Any]], suffix: str, articles: bool) -> str:
    if suffix == ".jsonl":
        return "".join(json_text(row) + "\n" for row in rows)
    if suffix == ".json":
        paragraphs = [{"context": row.get("context"), "qas": [row]} for row in rows]
        return json_text({"data": [{"paragraphs": paragraphs}]} if articles else rows)
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(
        text, list(names), delimiter="\t" if suffix == ".tsv" else ",", escapechar="\\"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def texts(rng: Random, folder: Path, material: Material) -> Job:
    suffix = rng.choice((".txt", ".jsonl", ".json", ".csv", ".tsv"))
    rows = [{"text": line} for line in material.text.splitlines() if line]
    raw = _damaged_rows(rng, rows, suffix, articles=False)
    if suffix == ".txt":
        raw = damaged_text(rng, material.text.encode())
    (folder / f"text{suffix}").write_bytes(raw)
    odd = rng.choice([value for value in ODD if isinstance(value, str)])
    names = (f"text{suffix}" if rng.random() < 0.9 else odd,)
    wanted = Corpus(texts=names, sequences=1, tokens_per_sequence=16, windows=rng.choice(("packed", "documents")))  # fmt: skip
    return lambda: corpus.draw(wanted, material.tokenizer, (folder,), embeddings=2048)
