"""The lab's stand-in for Ollama: what the tests of the module do not see of it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.lab.ollama_server import Ollama, Registry, standin


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry.run() as server:
        yield server


@pytest.fixture
def ollama(tmp_path: Path, registry: Registry) -> Iterator[Ollama]:
    with standin(tmp_path, registry) as server:
        yield server


def ask(ollama: Ollama, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(ollama.host, timeout=20)
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def pull(ollama: Ollama, **body: Any) -> list[dict[str, Any]]:
    status, text = ask(ollama, "POST", "/api/pull", body)
    assert status == 200, text
    return [json.loads(line) for line in text.splitlines()]


def test_says_that_it_is_a_standin(ollama: Ollama) -> None:
    assert ollama.version == "0.32.7-standin"
    assert json.loads(ask(ollama, "GET", "/api/version")[1]) == {"version": "0.32.7-standin"}
    assert ollama.command("--version").stdout == "ollama version is 0.32.7-standin\n"
    ollama.kill()
    assert ollama.command("-v").stdout == ("Warning: could not connect to a running Ollama instance\n"
                                           "Warning: client version is 0.32.7-standin\n")


def test_pull_goes_through_the_states_of_a_real_one_and_stores_as_it_does(ollama: Ollama, registry: Registry) -> None:
    digest = registry.publish("llama3.2:3b")
    lines = pull(ollama, model="llama3.2:3b")
    states = list(dict.fromkeys(line["status"].split(" ")[0] + (" digest" if "digest" in line else "") for line in lines))
    assert states == ["pulling", "pulling digest", "verifying", "writing", "success"]
    manifest = ollama.models / "manifests/registry.ollama.ai/library/llama3.2/3b"
    assert manifest.read_bytes() == registry.manifests["library/llama3.2:3b"]
    assert {file.name.replace("-", ":") for file in (ollama.models / "blobs").iterdir()} == set(registry.blobs)
    listed = json.loads(ask(ollama, "GET", "/api/tags")[1])["models"]
    assert [(model["name"], model["digest"]) for model in listed] == [("llama3.2:3b", digest)]
    assert "llama3.2:3b" in ollama.command("list").stdout


def test_failures_of_a_pull_are_reported_where_ollama_reports_them(ollama: Ollama) -> None:
    assert ask(ollama, "POST", "/api/pull", {"model": "llama 3.2"}) == (400, '{"error": "invalid model name"}')
    assert pull(ollama, model="nothing")[-1] == {"error": "pull model manifest: file does not exist"}
    assert ask(ollama, "POST", "/api/pull", {"model": "nothing", "stream": False})[0] == 500
    assert ollama.command("pull", "llama", "3.2").stderr == "Error: accepts 1 arg(s), received 2\n"


def test_an_error_before_the_stream_has_a_status_of_its_own(tmp_path: Path, registry: Registry) -> None:
    with standin(tmp_path, registry, OLLAMA_STANDIN_INSECURE="0") as ollama:
        answer = ask(ollama, "POST", "/api/pull", {"model": f"http://{registry.address}/library/x"})
    assert answer == (500, '{"error": "insecure protocol http"}')


def test_parallel_pulls_share_one_download(tmp_path: Path, registry: Registry) -> None:
    registry.publish("llama3.2")
    with standin(tmp_path, registry, rate=4_000_000) as ollama:
        results: list[dict[str, Any]] = []
        threads = [threading.Thread(target=lambda: results.append(pull(ollama, model="llama3.2")[-1])) for _ in range(3)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [{"status": "success"}] * 3
        assert time.monotonic() - start < 3 * 3_000_000 / 4_000_000


def test_host_header_is_checked_on_loopback_only(tmp_path: Path, registry: Registry, ollama: Ollama) -> None:
    for host in ("localhost", "127.0.0.1:11434", "[::1]", "10.1.2.3", "gpu.internal"):
        assert ask(ollama, "GET", "/", Host=host) == (200, "Ollama is running"), host
    assert ask(ollama, "GET", "/", Host="evil.example")[0] == 403
    (tmp_path / "wide").mkdir()
    with standin(tmp_path / "wide", registry, host="0.0.0.0:0") as wide:
        assert wide.listens in ("[::]", "0.0.0.0")
        assert ask(wide, "GET", "/", Host="evil.example")[0] == 200


def test_deletes_answers_and_unloads(ollama: Ollama, registry: Registry) -> None:
    registry.publish("llama3.2")
    pull(ollama, model="llama3.2")
    answer = json.loads(ask(ollama, "POST", "/api/generate", {"model": "llama3.2", "prompt": "hi", "stream": False})[1])
    assert "stand-in" in answer["response"]
    question = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
    lines = [json.loads(line) for line in ask(ollama, "POST", "/api/chat", question)[1].splitlines()]
    assert "stand-in" in "".join(line["message"]["content"] for line in lines)
    assert [line["done"] for line in lines] == [False, True]
    assert [model["name"] for model in json.loads(ask(ollama, "GET", "/api/ps")[1])["models"]] == ["llama3.2:latest"]
    assert json.loads(ask(ollama, "POST", "/api/generate", {"model": "llama3.2", "keep_alive": 0})[1])["done_reason"] == "unload"
    assert json.loads(ask(ollama, "GET", "/api/ps")[1]) == {"models": []}
    assert ask(ollama, "DELETE", "/api/delete", {"model": "llama3.2"})[0] == 200
    assert ask(ollama, "POST", "/api/show", {"model": "llama3.2"})[0] == 404
    assert not list((ollama.models / "blobs").iterdir())


def test_a_taken_port_is_named(ollama: Ollama) -> None:
    second = ollama.command("serve")
    assert (second.returncode, second.stderr) == (1, f"Error: listen tcp {ollama.host}: bind: address already in use\n")
