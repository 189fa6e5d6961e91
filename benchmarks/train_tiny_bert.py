"""Train the BERT of recipes/tiny-bert from nothing: data, tokenizer and weights, one CPU thread.

- The task: which of three presidents speaks, from a passage of a State of the Union address. Real text
  with real labels; the last address of each president is held out.
- Everything follows from the seed and the text: one thread, deterministic kernels. Another PyTorch
  build or processor may round differently and so end in slightly different weights.
- Quality is measured on the folder as it was saved, read back in fp32.
"""

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Annotated

import torch
import typer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    get_cosine_schedule_with_warmup,
)

RECIPES = Path(__file__).parents[1] / "recipes"
FIRST_YEARS = {"sotu_1980_2010.txt": 1980, "sotu_2011_2021.txt": 2011}
PRESIDENTS = {
    "Clinton": range(1993, 2001),
    "Bush": range(2001, 2009),
    "Obama": range(2009, 2017),
}
WORDS_PER_PASSAGE = 40
CALIBRATION_ROWS = 1024
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = 2048
POSITIONS = 128
BATCH = 32
PEAK_LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.1
DROPOUT = 0.2
WORD_DROPOUT = 0.2

Row = dict[str, str]


def passages(speech: str) -> list[str]:
    """Whole sentences, at least WORDS_PER_PASSAGE words, without what the audience did."""
    spoken = re.sub(r"[\[(](?:laughter|applause)\.?[\])]", " ", speech, flags=re.IGNORECASE)
    texts, sentences, words = [], [], 0
    for sentence in re.split(r"(?<=[.?!])\s+", " ".join(spoken.split())):
        sentences.append(sentence)
        words += len(sentence.split())
        if words >= WORDS_PER_PASSAGE:
            texts.append(" ".join(sentences))
            sentences, words = [], 0
    return texts


def labelled(folder: Path) -> tuple[list[Row], list[Row]]:
    """Rows to learn from, and those of each president's last address."""
    learnt: list[Row] = []
    held_out: list[Row] = []
    for name, first in FIRST_YEARS.items():
        text = (folder / name).read_text(encoding="utf-8")
        speeches = [line for line in text.splitlines() if line.strip()]
        for year, speech in enumerate(speeches, start=first):
            for president, years in PRESIDENTS.items():
                if year in years:
                    rows = [{"text": passage, "label": president} for passage in passages(speech)]
                    (held_out if year == years[-1] else learnt).extend(rows)
    return learnt, held_out


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """WordPiece in BERT's manner, lower case."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", SPECIAL.index("[SEP]")), ("[CLS]", SPECIAL.index("[CLS]"))
    )
    names = {f"{token[1:-1].lower()}_token": token for token in SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **names)


def untrained() -> BertForSequenceClassification:
    names = list(PRESIDENTS)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=POSITIONS,
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=DROPOUT,
        initializer_range=0.06,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    return BertForSequenceClassification(config)


def encode(tokenizer: PreTrainedTokenizerFast, rows: list[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids and mask, (rows, longest), and class numbers."""
    names = list(PRESIDENTS)
    tokens = tokenizer(
        [row["text"] for row in rows], truncation=True, max_length=POSITIONS, padding=True,
        return_tensors="pt",
    )  # fmt: skip
    labels = torch.tensor([names.index(row["label"]) for row in rows])
    return tokens["input_ids"], tokens["attention_mask"], labels


def fit(
    model: BertForSequenceClassification,
    data: tuple[Tensor, Tensor, Tensor],
    epochs: int,
    draw: torch.Generator,
) -> None:
    """AdamW; some words are hidden in every pass, so that no single one decides."""
    ids, mask, labels = data
    steps = epochs * -(-len(ids) // BATCH)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for rows in torch.randperm(len(ids), generator=draw).split(BATCH):  # type: ignore[no-untyped-call]
            width = int(mask[rows].sum(1).max())
            batch = ids[rows, :width]
            hidden = torch.rand(batch.shape, generator=draw) < WORD_DROPOUT
            batch = torch.where(hidden & (batch >= len(SPECIAL)), SPECIAL.index("[MASK]"), batch)
            logits = model(input_ids=batch, attention_mask=mask[rows, :width]).logits
            loss = functional.cross_entropy(logits, labels[rows], label_smoothing=0.05)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += loss.item() * len(rows)
        typer.echo(f"epoch {epoch:2}: loss {total / len(ids):.3f} nats", err=True)


def save(
    model: BertForSequenceClassification, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """fp16 safetensors and the tokenizer."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # transformers 4 does not know the name that 5 gives the class.
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, indent=2) + "\n")


@torch.no_grad()
def report(folder: Path, learnt: list[Row], held_out: list[Row]) -> None:
    """Print the quality of a saved folder, as a reader of it would find it."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    typer.echo(f"{model.num_parameters()} parameters")
    for name, rows in (("training", learnt), ("held out", held_out)):
        ids, mask, labels = encode(tokenizer, rows)
        logits = model(input_ids=ids, attention_mask=mask).logits
        accuracy = (logits.argmax(1) == labels).float().mean()
        commonest = max(Counter(row["label"] for row in rows).values()) / len(rows)
        typer.echo(
            f"{name}: {len(rows)} passages, accuracy {accuracy:.3f} (commonest class"
            f" {commonest:.3f}), loss {functional.cross_entropy(logits, labels):.3f} nats"
        )


def write(rows: list[Row], path: Path) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def main(
    out: Annotated[Path, typer.Option(help="Folder of the model.")] = RECIPES / "tiny-bert",
    data: Annotated[Path, typer.Option(help="Folder of speeches and rows.")] = RECIPES / "data",
    epochs: Annotated[int, typer.Option(min=1)] = 12,
    seed: Annotated[int, typer.Option(help="Of weights, order and drawn rows.")] = 0,
) -> None:
    """Label passages, train, save, read back and report."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    learnt, held_out = labelled(data)
    tokenizer = train_tokenizer([row["text"] for row in learnt])
    model = untrained()
    fit(model, encode(tokenizer, learnt), epochs, torch.Generator().manual_seed(seed))
    save(model, tokenizer, out)
    random.Random(seed).shuffle(learnt)
    write(learnt[:CALIBRATION_ROWS], data / "presidents_train.jsonl")
    write(held_out, data / "presidents_dev.jsonl")
    report(out, learnt, held_out)


if __name__ == "__main__":
    typer.run(main)
