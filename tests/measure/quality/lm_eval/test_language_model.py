"""Our runners behind lm-eval's interface give what lm-eval's own class gives, and stop where it does."""

import copy

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra `[eval]`)")

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig

from numprune_export.core.errors import InputError, NumericalError, RecipeError
from numprune_export.measure.quality.lm_eval.generation import Request
from numprune_export.measure.quality.lm_eval.language_model import RunnerLM
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_exporters.onnx.target import OnnxExporter

LENGTH = 128
LONG = "The state of the Union is strong because the people are strong. " * 20

CHOICES = [
    ("My fellow", " Americans"),
    ("My fellow", " banana"),
    ("My fellow", " Americans, tonight"),
    ("", "Thank you very much."),
    ("", "<|endoftext|>Thank you"),
    ("The trailing space belongs to ", "the answer"),
    ("<|endoftext|>My fellow", " Americans"),
    (LONG, " Thank you."),
]
PROMPTS = [
    ("My fellow Americans", {"until": ["."], "max_gen_toks": 24}),
    ("We", {"until": ["\n", " the"], "max_gen_toks": 24}),
    ("Thank you", {"until": [], "max_gen_toks": 8, "do_sample": False}),
    (LONG, {"until": ["."], "max_gen_toks": 16}),
    ("Tonight I want", {"until": "a", "max_gen_toks": 1}),
]


def instances(kind, arguments):
    return [
        Instance(request_type=kind, doc={}, arguments=request, idx=0, metadata=("task", index, 1))
        for index, request in enumerate(arguments)
    ]


def nothing(_):
    return


def wrapped(runner, tokenizer, **changes):
    told = {"max_length": LENGTH, "batch": 3, "expect": nothing, "advance": nothing}
    return RunnerLM(runner, tokenizer, **told | changes)


@pytest.fixture(scope="module")
def theirs(model, tokenizer):
    # Their greedy generation warns of settings that only sampling reads.
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=0, pad_token_id=0)
    return HFLM(pretrained=model, tokenizer=tokenizer, max_length=LENGTH, batch_size=2)


@pytest.fixture(params=["torch", "onnx"])
def ours(request, model, tokenizer, artifact):
    runner = (
        TorchRunner(model, threads=None)
        if request.param == "torch"
        else OnnxExporter().open(artifact, threads=1, capacity=LENGTH)
    )
    with runner:
        yield wrapped(runner, tokenizer)


def test_loglikelihoods_are_theirs(ours, theirs):
    expected = theirs.loglikelihood(instances("loglikelihood", CHOICES), disable_tqdm=True)
    answers = ours.loglikelihood(instances("loglikelihood", CHOICES))
    for (score, greedy), (wanted, theirs_greedy) in zip(answers, expected, strict=True):
        assert score == pytest.approx(wanted, abs=1e-4)
        assert greedy == theirs_greedy
    assert any(greedy for _, greedy in answers)


def test_rolling_loglikelihoods_are_theirs(ours, theirs):
    texts = [("My fellow Americans, thank you.",), (LONG,), ("We",)]
    expected = theirs.loglikelihood_rolling(instances("loglikelihood_rolling", texts), True)
    likelihoods = ours.loglikelihood_rolling(instances("loglikelihood_rolling", texts))
    assert likelihoods == pytest.approx(expected, rel=1e-6, abs=1e-4)
    assert likelihoods[1] < -100


def test_greedy_text_is_theirs(ours, theirs):
    expected = theirs.generate_until(instances("generate_until", PROMPTS), disable_tqdm=True)
    texts = ours.generate_until(instances("generate_until", PROMPTS))
    assert texts == expected
    assert sum(map(len, texts)) > 40
    assert "." not in texts[0]


def test_the_batch_changes_no_answer(model, tokenizer):
    with TorchRunner(model, threads=None) as runner:
        for kind, arguments in (("loglikelihood", CHOICES), ("generate_until", PROMPTS)):
            single, many = (
                getattr(wrapped(runner, tokenizer, batch=batch), kind)(instances(kind, arguments))
                for batch in (1, 5)
            )
            if kind == "generate_until":
                assert single == many
            else:
                assert [score for score, _ in single] == pytest.approx(
                    [score for score, _ in many], abs=1e-4
                )


def test_generation_ends_at_the_end_of_text(model, tokenizer):
    class Ending(TorchRunner):
        steps = 0

        def decode(self, tokens):
            self.steps += 1
            logits = super().decode(tokens)
            logits[:, tokenizer.eos_token_id] = 1e9
            return logits

    with Ending(model, threads=None) as runner:
        (text,) = wrapped(runner, tokenizer).generate_until(
            instances("generate_until", PROMPTS[2:3])
        )
    assert 0 < len(tokenizer.encode(text)) <= 2
    assert runner.steps == 1


def test_a_text_has_one_beginning(model, tokenizer):
    """Of a tokenizer that puts a token before every text."""
    own = copy.deepcopy(tokenizer)
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    with TorchRunner(model, threads=None) as runner:
        asked = wrapped(runner, own)
        assert asked.tok_encode("We").count(0) == 1
        assert asked.tok_encode("<|endoftext|>We") == asked.tok_encode("We")
        assert asked.tok_encode("We", add_special_tokens=False).count(0) == 0


def test_progress_counts_every_request(model, tokenizer):
    expected, done = [], []
    with TorchRunner(model, threads=None) as runner:
        told = wrapped(runner, tokenizer, expect=expected.append, advance=done.append)
        told.loglikelihood(instances("loglikelihood", CHOICES))
        told.generate_until(instances("generate_until", PROMPTS))
        told.loglikelihood_rolling(instances("loglikelihood_rolling", [(LONG,)]))
    assert sum(done) == sum(expected)
    assert expected[:2] == [len(CHOICES), len(PROMPTS)]


def test_requests_that_share_a_row_are_run_once(model, tokenizer):
    class Counting(TorchRunner):
        rows = 0

        def prefill(self, tokens, lengths=None, *, all_positions=False):
            self.rows += len(tokens)
            return super().prefill(tokens, lengths, all_positions=all_positions)

    with Counting(model, threads=None) as runner:
        wrapped(runner, tokenizer).loglikelihood(instances("loglikelihood", [CHOICES[0]] * 4))
    assert runner.rows == 1


def test_sampling_and_too_many_tokens_are_refused(tokenizer):
    def asked(**settings):
        return Request.of(("text", settings), tokenizer.encode, LENGTH)

    with pytest.raises(RecipeError, match="sampled"):
        asked(do_sample=True, temperature=0.8)
    with pytest.raises(RecipeError, match=f"`{LENGTH}` tokens"):
        asked(max_gen_toks=LENGTH)
    assert asked(max_gen_toks=LENGTH - 1).most == LENGTH - 1


def test_nan_is_no_score(model, tokenizer):
    class Broken(TorchRunner):
        def prefill(self, tokens, lengths=None, *, all_positions=False):
            return super().prefill(tokens, lengths, all_positions=all_positions) * float("nan")

    with (
        Broken(model, threads=None) as runner,
        pytest.raises(NumericalError, match="NaN"),
    ):
        wrapped(runner, tokenizer).loglikelihood(instances("loglikelihood", CHOICES[:1]))


def test_the_runner_refuses_what_exceeds_its_capacity(artifact, tokenizer):
    with (
        OnnxExporter().open(artifact, threads=1, capacity=16) as runner,
        pytest.raises(InputError, match="capacity"),
    ):
        wrapped(runner, tokenizer).loglikelihood(instances("loglikelihood", CHOICES[-1:]))
