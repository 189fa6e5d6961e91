"""Train the Llama of recipes/tiny-llama from nothing: tokenizer and weights, one CPU thread.

- A real checkpoint in miniature: 0.87 M parameters, grouped-query attention, tied embeddings.
- Everything follows from the seed and the training text: one thread, deterministic kernels. Another
  PyTorch build or processor may round differently and so end in slightly different weights.
- Quality is measured on the folder as it was saved, read back in fp32, on speeches of later years.
"""

import json
import math
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    get_cosine_schedule_with_warmup,
)

RECIPES = Path(__file__).parents[1] / "recipes"
END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0  # the trainer numbers special tokens first
VOCABULARY = 1024
POSITIONS = 512
ROPE_THETA = 10000.0
TOKENS_PER_WINDOW = 128
TOKENS_PER_STEP = 1024
STEPS_PER_LONG_WINDOW = 4  # every fourth step sees all positions, or perplexity doubles past 128
PEAK_LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.1


def train_tokenizer(text: str, vocabulary: int = VOCABULARY) -> Tokenizer:
    """Byte-level BPE in the manner of GPT-2: any text can be encoded, nothing is added to it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> Int[Tensor, " tokens"]:
    """Every line is one speech; each begins after an end-of-text token. int64."""
    speeches = tokenizer.encode_batch(text.splitlines(keepends=True))
    return torch.tensor([token for speech in speeches for token in (END_OF_TEXT_ID, *speech.ids)])


def untrained() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=16,
        max_position_embeddings=POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        # With the usual 0.02 so narrow a network starts slowly: 400 steps reach 148, not 102.
        initializer_range=0.06,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=END_OF_TEXT_ID,
        eos_token_id=END_OF_TEXT_ID,
        pad_token_id=END_OF_TEXT_ID,
    )
    return LlamaForCausalLM(config)


def cut(
    tokens: Int[Tensor, " tokens"], window: int, draw: torch.Generator
) -> Int[Tensor, "batch window"]:
    """Windows that start anywhere, as many as make up one step."""
    windows = tokens.unfold(0, window, 1)
    return windows[torch.randint(len(windows), (TOKENS_PER_STEP // window,), generator=draw)]


def fit(
    model: PreTrainedModel, tokens: Int[Tensor, " tokens"], steps: int, draw: torch.Generator
) -> None:
    """AdamW on windows cut at random places; linear warm-up, then a cosine down to zero."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 20, steps)
    started = time.perf_counter()
    for step in range(1, steps + 1):
        window = TOKENS_PER_WINDOW if step % STEPS_PER_LONG_WINDOW else POSITIONS
        batch = cut(tokens, window, draw)
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps:
            spent = time.perf_counter() - started
            typer.echo(f"step {step:5}: loss {loss.item():.3f} nats/token, {spent:.0f} s", err=True)


def save(model: PreTrainedModel, tokenizer: Tokenizer, folder: Path) -> None:
    """fp16 safetensors, and the names that transformers 4 and 5 both read."""
    model.generation_config = GenerationConfig(
        bos_token_id=END_OF_TEXT_ID, eos_token_id=END_OF_TEXT_ID, pad_token_id=END_OF_TEXT_ID
    )
    model.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"rope_theta": ROPE_THETA, "torch_dtype": "float16"}
    _write_json(folder / "config.json", dict(sorted(config.items())))

    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "model_max_length": POSITIONS,
    }
    _write_json(folder / "tokenizer_config.json", settings)


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


@torch.no_grad()
def perplexity(model: PreTrainedModel, tokens: Int[Tensor, " tokens"], window: int) -> float:
    """exp of the mean loss over non-overlapping windows; the first token of each is only context."""
    whole = len(tokens) // window
    batches = tokens[: whole * window].view(whole, window).chunk(math.ceil(whole / 64))
    nats = [model(input_ids=batch, labels=batch).loss.item() * len(batch) for batch in batches]
    return math.exp(sum(nats) / whole)


def unigram_perplexity(
    training: Int[Tensor, " tokens"], held_out: Int[Tensor, " tokens_held_out"]
) -> float:
    """What the training text's token frequencies alone reach, each count raised by one."""
    counts = torch.bincount(training, minlength=VOCABULARY).double() + 1
    return math.exp(-(counts / counts.sum()).log()[held_out].mean().item())


def report(folder: Path, training: str, held_out: str) -> None:
    """Print the quality of a saved folder, as a reader of it would find it."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    known, unseen = (encode(tokenizer.backend_tokenizer, text) for text in (training, held_out))
    typer.echo(f"{model.num_parameters()} parameters; {len(known)} tokens of training text,")
    typer.echo(f"{len(unseen)} held out ({len(held_out.encode()) / len(unseen):.2f} bytes each)")
    typer.echo(f"held-out perplexity, unigram: {unigram_perplexity(known, unseen):.2f}")
    for window in (TOKENS_PER_WINDOW, POSITIONS):
        typer.echo(f"held-out perplexity, {window} tokens: {perplexity(model, unseen, window):.2f}")
    typer.echo(f"training perplexity: {perplexity(model, known, TOKENS_PER_WINDOW):.2f}")
    prompt = tokenizer("Tonight, I ask the Congress to", return_tensors="pt")
    typer.echo(tokenizer.decode(model.generate(**prompt, max_new_tokens=48, do_sample=False)[0]))


def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = RECIPES / "tiny-llama",
    training: Annotated[Path, typer.Option(help="Text, one document a line.", exists=True)] = (
        RECIPES / "data/sotu_1980_2010.txt"
    ),
    held_out: Annotated[Path, typer.Option(help="Text to judge by.", exists=True)] = (
        RECIPES / "data/sotu_2011_2021.txt"
    ),
    steps: Annotated[int, typer.Option(min=1, help=f"Of {TOKENS_PER_STEP} tokens each.")] = 3200,
    seed: Annotated[int, typer.Option(help="Of weights and window order.")] = 0,
) -> None:
    """Train, save, read back and report."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    text = training.read_text(encoding="utf-8")
    tokenizer = train_tokenizer(text)
    model = untrained()
    fit(model, encode(tokenizer, text), steps, torch.Generator().manual_seed(seed))
    save(model, tokenizer, out)
    report(out, text, held_out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
