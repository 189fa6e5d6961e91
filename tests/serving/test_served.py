"""The package in a real server: text that clients get is the model's own greedy text."""

import json
import queue
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpc
from transformers import AutoTokenizer

from numprune_export.export.artifact import Artifact
from numprune_exporters.onnx.target import OnnxExporter

PROMPTS = (
    "The state of the union",
    "We",
    "My fellow Americans, I am proud to report that",
    "Jobs and wages",
    "the people of this country will work and",
)

MOST = 24


@pytest.fixture(scope="module")
def direct(run_folder):
    """Greedy text by ONNX Runtime and transformers' tokenizer, each prompt alone: (text, tokens)."""
    tokenizer = AutoTokenizer.from_pretrained(run_folder / "model")
    artifact = Artifact.load(run_folder / "artifacts" / "onnx" / "pruned")
    with OnnxExporter().open(artifact, threads=1, capacity=256) as runner:

        def text(prompt, most=MOST):
            logits = runner.prefill(np.array([tokenizer(prompt).input_ids]))
            tokens = []
            while len(tokens) < most and (token := int(logits[0].argmax())) != 0:
                tokens.append(token)
                logits = runner.decode(np.array([token]))
            return tokenizer.decode(tokens, skip_special_tokens=True), tokens

        yield text


@pytest.fixture(scope="module")
def client(server):
    with grpc.InferenceServerClient(server.grpc) as connection:
        yield connection


def post(server, endpoint, **content):
    """Status and parsed body of a call of the generate extension."""
    request = urllib.request.Request(
        f"http://{server.http}/v2/models/tiny/{endpoint}", json.dumps(content).encode()
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def generate(server, prompt, most=MOST, **more):
    status, body = post(server, "generate", text_input=prompt, max_tokens=most, **more)
    assert status == 200, body
    return json.loads(body)


def statistics(client):
    """Counts and times of the model so far, warm-up included."""
    return client.get_inference_statistics("tiny", as_json=True)["model_stats"][0]


def inputs_of(prompt, most, stream=True):
    values = {
        "text_input": ("BYTES", np.array([[prompt.encode()]], np.object_)),
        "max_tokens": ("INT32", np.array([[most]], np.int32)),
        "stream": ("BOOL", np.array([[stream]])),
    }
    inputs = []
    for name, (kind, array) in values.items():
        inputs.append(grpc.InferInput(name, list(array.shape), kind))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def streamed(server, prompt, most=MOST):
    """Responses of one gRPC stream, to the last."""
    answers = queue.Queue()
    with grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("tiny", inputs_of(prompt, most))
        responses = []
        while not responses or not responses[-1].as_numpy("finish_reason")[0, 0]:
            result, error = answers.get(timeout=30)
            assert error is None, error
            responses.append(result)
    return responses


@pytest.mark.parametrize("prompt", PROMPTS)
def test_text_and_tokens_are_those_of_onnx_runtime(server, direct, prompt):
    answer = generate(server, prompt)
    text, tokens = direct(prompt)
    assert answer["text_output"] == text
    assert answer["token_ids"] == tokens
    assert answer["num_output_tokens"] == len(tokens)
    assert answer["finish_reason"] == ("length" if len(tokens) == MOST else "stop")


@pytest.mark.parametrize("prompt", PROMPTS[:2])
def test_streamed_pieces_make_up_the_same_text(server, direct, prompt):
    pieces = streamed(server, prompt)
    text, tokens = direct(prompt)
    assert len(pieces) > MOST // 2
    assert b"".join(piece.as_numpy("text_output")[0, 0] for piece in pieces).decode() == text
    assert [int(token) for piece in pieces for token in piece.as_numpy("token_ids")[0]] == tokens


def test_the_http_stream_is_the_same_too(server, direct):
    status, body = post(server, "generate_stream", text_input=PROMPTS[0], max_tokens=8, stream=True)
    events = [json.loads(line.removeprefix("data:")) for line in body.split("\n") if line.strip()]
    assert status == 200
    assert len(events) == 8
    assert "".join(event["text_output"] for event in events) == direct(PROMPTS[0], 8)[0]


def test_clients_at_once_share_batches_and_get_what_each_gets_alone(server, client, direct):
    expected = {prompt: direct(prompt)[0] for prompt in PROMPTS}
    executed = []
    while not executed or executed[-1] == 20:
        before = statistics(client)
        with ThreadPoolExecutor(10) as pool:
            asked = [(prompt, pool.submit(generate, server, prompt)) for prompt in PROMPTS * 4]
            got = [(prompt, future.result()["text_output"]) for prompt, future in asked]
        assert got == [(prompt, expected[prompt]) for prompt, _ in asked]
        asked, done = 0, 0
        while asked < 20:  # answers are counted after they are sent
            after = statistics(client)
            counts = ("inference_count", "execution_count")
            asked, done = (int(after[name]) - int(before[name]) for name in counts)
        assert asked == 20
        executed.append(done)
        assert len(executed) < 10, executed  # on a busy machine a request may end before the next


def test_requests_of_other_lengths_and_limits_end_each_at_its_own(server, direct):
    limits = {PROMPTS[0]: 3, PROMPTS[1]: 40, PROMPTS[2]: 17}
    with ThreadPoolExecutor(3) as pool:
        asked = {
            prompt_text: pool.submit(generate, server, prompt_text, most)
            for prompt_text, most in limits.items()
        }
    for prompt, most in limits.items():
        assert asked[prompt].result()["token_ids"] == direct(prompt, most)[1]


def test_a_bad_request_fails_and_those_beside_it_do_not(server, direct):
    with ThreadPoolExecutor(8) as pool:
        # While this one is decoded the others wait, and then make up one batch.
        pool.submit(generate, server, PROMPTS[1], 200)
        time.sleep(0.02)
        good = [pool.submit(generate, server, prompt) for prompt in PROMPTS[:2]]
        none = pool.submit(post, server, "generate", text_input=PROMPTS[0], max_tokens=0)
        empty = pool.submit(post, server, "generate", text_input="", max_tokens=5)
    assert [future.result()["text_output"] for future in good] == [
        direct(prompt_text)[0] for prompt_text in PROMPTS[:2]
    ]
    assert none.result()[0] == empty.result()[0] == 400
    assert "`max_tokens` cannot be `0`" in none.result()[1]
    assert "no tokens" in empty.result()[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"text_input": "the people " * 400}, "tokens, this server takes"),
        ({"text_input": "We", "temperature": -1.0}, "`temperature` cannot be `-1.0`"),
        ({"text_input": "We", "top_p": 0.0}, "`top_p` cannot be `0.0`"),
        ({"text_input": "We", "max_tokns": 4}, "unknown parameter `max_tokns`"),
        ({"text_input": ["We", "You"]}, "send one prompt per request"),
        ({"max_tokens": 4}, "`text_input` is missing"),
    ],
)
def test_wrong_values_are_named(server, content, message):
    status, body = post(server, "generate", **content)
    assert status == 400
    assert message in json.loads(body)["error"]


def test_stop_words_sampling_and_the_prompt_itself(server, direct):
    text, _ = direct(PROMPTS[0])
    word = text.split()[3]
    stopped = generate(server, PROMPTS[0], stop_words=["no such text", word])
    assert stopped["text_output"] == text[: text.index(word)]
    assert stopped["finish_reason"] == "stop"
    drawn = [
        generate(server, PROMPTS[0], top_p=0.9, seed=seed)["text_output"] for seed in (5, 5, 6)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    whole = generate(server, PROMPTS[0], exclude_input_in_output=False)["text_output"]
    assert whole == PROMPTS[0] + text
    said = generate(server, PROMPTS[0], parameters={"stop_words": word})["text_output"]
    assert said == stopped["text_output"]


def test_a_cancelled_request_stops(server, client):
    def computed_ns():
        # Counted after the last answer was sent: with one instance, before the next request starts.
        generate(server, PROMPTS[0], 1)
        return int(statistics(client)["inference_stats"]["compute_infer"]["ns"])

    before = computed_ns()
    assert len(streamed(server, PROMPTS[1], 480)) > 400
    whole = computed_ns() - before
    answers = queue.Queue()
    with grpc.InferenceServerClient(server.grpc) as other:
        other.start_stream(lambda result, error: answers.put((result, error)))
        other.async_stream_infer("tiny", inputs_of(PROMPTS[1], 480))
        answers.get(timeout=30)
        other.stop_stream(cancel_requests=True)
    assert computed_ns() - before - whole < whole / 2


def test_an_outside_client_reads_what_the_model_takes(client):
    assert client.is_model_ready("tiny")
    config = client.get_model_config("tiny", as_json=True)["config"]
    assert config["model_transaction_policy"]["decoupled"]
    assert config["max_batch_size"] == 4
    metadata = client.get_model_metadata("tiny", as_json=True)
    kinds = {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]}
    assert kinds["text_input"] == "BYTES"
    assert kinds["max_tokens"] == "INT32"
    assert {tensor["name"] for tensor in metadata["outputs"]} >= {"text_output", "finish_reason"}


def test_the_client_script_prints_the_text(server, package, direct):
    arguments = [PROMPTS[2], "--url", server.grpc, "--max-tokens", "12"]
    done = subprocess.run(
        [server.python, package / "client.py", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == direct(PROMPTS[2], 12)[0] + "\n"
    refused = subprocess.run(
        [server.python, package / "client.py", "", "--url", server.grpc],
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 1
    assert "no tokens" in refused.stderr
