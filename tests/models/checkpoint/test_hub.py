"""The hub client against a server of our own: nothing leaves this machine."""

import json
import shutil
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import huggingface_hub
import pytest
import torch
from tiny import tiny

from numprune_export.core.errors import HubError, UnsupportedModelError
from numprune_export.data import hub_access
from numprune_export.models.checkpoint import hub
from numprune_export.models.checkpoint.load import load_source
from numprune_export.models.checkpoint.source import resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(BaseHTTPRequestHandler):
    """Serves the folder `server.repository` as `org/tiny`, revision `main`."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path.startswith("/api/models/org/gated"):
            return self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
        if not self.path.startswith(("/api/models/org/tiny", "/org/tiny/")):
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if "no-such-branch" in self.path:
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if self.path.startswith("/api/"):
            content = self.tree() if "/tree/" in self.path else self.info()
            return self.answer(200, json.dumps(content).encode(), {})
        name = self.path.partition("?")[0].rpartition("/")[2]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{name}"'}
        return self.answer(200, (self.server.repository / name).read_bytes(), headers)

    do_HEAD = do_GET

    def info(self):
        return {"id": "org/tiny", "sha": COMMIT, "siblings": [{"rfilename": n} for n in self.files]}

    def tree(self):
        size = {n: (self.server.repository / n).stat().st_size for n in self.files}
        return [{"type": "file", "path": n, "size": size[n], "oid": n} for n in self.files]

    @property
    def files(self):
        return sorted(path.name for path in self.server.repository.iterdir())

    def answer(self, status, body, headers):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeHub) as running:
        running.repository, running.asked = tmp_path / "repository", []
        running.repository.mkdir()
        Thread(target=running.serve_forever, daemon=True).start()
        _connect(monkeypatch, f"http://127.0.0.1:{running.server_port}", tmp_path / "cache")
        yield running
        running.shutdown()


def _connect(monkeypatch, url, cache):
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


def test_a_hub_model_is_loaded_and_later_found_without_a_connection(server, monkeypatch, tmp_path):
    model = tiny("qwen2")
    model.save_pretrained(server.repository)
    (server.repository / "pickled.bin").write_bytes(b"never fetched")

    online = resolve("org/tiny", revision="main", search=[tmp_path])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    offline = resolve("org/tiny", revision="main", search=[tmp_path])

    assert online == offline
    assert online.revision == COMMIT
    assert not any("pickled" in path for path in server.asked if "/resolve/" in path)
    loaded = load_source(offline, torch.float32)
    assert torch.equal(loaded.model.lm_head.weight, model.lm_head.weight)


def test_an_unsupported_hub_model_is_refused_before_its_weights_are_fetched(server, tmp_path):
    (server.repository / "config.json").write_text('{"model_type": "gpt2"}')
    (server.repository / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UnsupportedModelError, match="`gpt2`"):
        resolve("org/tiny", revision=None, search=[tmp_path])
    assert not any("safetensors" in path for path in server.asked)


@pytest.mark.parametrize(
    ("name", "revision", "what"),
    [
        ("org/gated", None, "gated"),
        ("org/unknown", None, "no model `org/unknown`"),
        ("org/tiny", "no-such-branch", "at revision `no-such-branch`"),
    ],
)
def test_the_hub_says_no(server, name, revision, what, tmp_path):
    with pytest.raises(HubError, match=what) as caught:
        resolve(name, revision=revision, search=[tmp_path])
    assert caught.value.exit_code == 7
    assert caught.value.hint


def test_an_unreachable_hub_is_noticed_in_seconds(monkeypatch, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    _connect(monkeypatch, f"http://127.0.0.1:{port}", tmp_path)
    began = time.monotonic()
    with pytest.raises(HubError, match="cannot be reached"):
        resolve("org/tiny", revision=None, search=[tmp_path])
    assert time.monotonic() - began < 5


def test_a_silent_hub_is_given_up_on(monkeypatch, tmp_path):
    monkeypatch.setattr(hub_access, "PATIENCE_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        _connect(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path)
        began = time.monotonic()
        with pytest.raises(HubError, match="cannot be reached"):
            resolve("org/tiny", revision=None, search=[tmp_path])
        assert time.monotonic() - began < 5


def test_a_shard_that_was_never_fetched_is_named_offline(server, monkeypatch, tmp_path):
    tiny().save_pretrained(server.repository)
    hub.config_folder("org/tiny", None)
    shutil.rmtree(server.repository)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="cannot be reached"):
        resolve("org/tiny", revision=None, search=[tmp_path])
