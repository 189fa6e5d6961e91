"""A pruned model is an ordinary PreTrainedModel: everything users do with one works."""

import copy
import json

import pytest
import torch
from live import TEXTS
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    StaticCache,
    TrainingArguments,
    pipeline,
)

import numprune_export as ne
from numprune_export import api
from numprune_export.models.kv_cache import cache_argument

PROMPT = "The state of the union"


def greedy(model, tokenizer, **options):
    tokens = tokenizer(PROMPT, return_tensors="pt")
    return model.generate(
        **tokens, max_new_tokens=8, do_sample=False, pad_token_id=0, **options
    ).tolist()


def logits(model, tokenizer):
    with torch.no_grad():
        return model(**tokenizer(PROMPT, return_tensors="pt")).logits


@pytest.fixture
def model(pruned):
    return pruned.model.eval()


def test_its_layers_differ_in_width(pruned):
    widths = {len(kept) for kept in pruned.plan.kept.values()}
    assert len(widths) > 2


def test_generate_with_every_cache(pruned, model):
    tokenizer, name = pruned.tokenizer, cache_argument(model)
    expected = greedy(model, tokenizer, use_cache=False)
    assert greedy(model, tokenizer) == expected
    assert greedy(model, tokenizer, cache_implementation="static") == expected
    assert greedy(model, tokenizer, **{name: DynamicCache(config=model.config)}) == expected
    assert greedy(model, tokenizer, num_beams=1, cache_implementation="dynamic") == expected
    static = StaticCache(config=model.config, max_cache_len=64)
    assert greedy(model, tokenizer, **{name: static}) == expected


def test_the_text_generation_pipeline(pruned, model):
    made = pipeline("text-generation", model=model, tokenizer=pruned.tokenizer, device="cpu")
    text = made(PROMPT, max_new_tokens=4, do_sample=False)[0]["generated_text"]
    assert text.startswith(PROMPT)


def test_torch_compile(pruned, model):
    compiled = torch.compile(model, backend="aot_eager", dynamic=False)
    torch.testing.assert_close(logits(compiled, pruned.tokenizer), logits(model, pruned.tokenizer))


def test_save_pretrained_and_reload(pruned, model, tmp_path):
    model.save_pretrained(tmp_path)
    pruned.tokenizer.save_pretrained(tmp_path)
    expected = logits(model, pruned.tokenizer)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)
    assert torch.equal(logits(plain.eval(), pruned.tokenizer), expected)
    assert torch.equal(logits(ne.load(tmp_path), pruned.tokenizer), expected)


def test_the_layout_that_push_to_hub_uploads(model, tmp_path):
    """`push_to_hub` uploads what `save_pretrained` writes: code and auto_map must be in it."""
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    module, _, cls = config["auto_map"]["AutoModelForCausalLM"].partition(".")
    assert (tmp_path / f"{module}.py").is_file()
    assert config["architectures"] == [cls]
    assert config["numprune"]["layout"] == "per-layer"


def test_the_trainer_trains_it(pruned, tmp_path):
    from transformers import (
        Trainer,
    )  # imported here: it takes seconds, in every worker of the suite

    model = pruned.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tokens = pruned.tokenizer(TEXTS.read_text()[:2000], return_tensors="pt")["input_ids"][0, :64]
    rows = [{"input_ids": tokens, "labels": tokens}] * 2
    options = TrainingArguments(
        str(tmp_path), max_steps=2, per_device_train_batch_size=1, report_to=[], use_cpu=True,
        save_strategy="no", learning_rate=1e-3, disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    Trainer(model=model, args=options, train_dataset=rows).train()
    moved = [
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    ]
    model.load_state_dict(before)
    assert len(moved) > 4


@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # asked by peft itself
def test_an_adapter_trains_and_merges(pruned, model):
    import peft  # here: it takes three seconds, in every worker of the suite

    wanted = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(copy.deepcopy(model), wanted)
    tokens = pruned.tokenizer(PROMPT, return_tensors="pt")
    adapted(**tokens, labels=tokens["input_ids"]).loss.backward()
    assert any(p.grad is not None for n, p in adapted.named_parameters() if "lora_A" in n)
    merged = adapted.merge_and_unload().eval()
    torch.testing.assert_close(logits(merged, pruned.tokenizer), logits(model, pruned.tokenizer))


def test_save_load_and_compare(dense, pruned, tmp_path):
    folder = pruned.save(tmp_path / "saved")
    loaded = ne.load(folder, verify_hashes=True)
    assert torch.equal(
        logits(loaded, pruned.tokenizer), logits(pruned.model.eval(), pruned.tokenizer)
    )
    same = ne.compare(pruned, loaded, TEXTS, windows=(4, 64))
    assert same.perplexity_ratio == 1
    assert same.divergence == pytest.approx(0, abs=1e-6)
    measured = ne.compare(dense[0], pruned, [TEXTS.read_text()[:20000]], windows=(4, 64))
    assert measured.perplexity_ratio > 1
    assert measured.divergence > 0
    assert measured.parameters[1] < measured.parameters[0]
    assert measured.tokens == 4 * 63


def test_export_writes_an_artifact_that_computes_the_same(pruned, model, tmp_path):
    from numprune_export.export import targets

    artifact = api.export(pruned, "onnx", tmp_path / "onnx")
    tokens = pruned.tokenizer(PROMPT, return_tensors="np")["input_ids"]
    with targets.find("onnx").open(artifact, threads=1, capacity=64) as runner:
        computed = runner.prefill(tokens, all_positions=True)
    torch.testing.assert_close(
        torch.from_numpy(computed), logits(model, pruned.tokenizer), atol=1e-4, rtol=0
    )
