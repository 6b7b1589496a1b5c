"""The module ollama_model: names and plans as tables, the stream with made-up servers, pulls from the lab's stand-in."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.progress import PausedError, Progress, Status
from plugins.module_utils.forja.ollama import api as ollama_api
from plugins.module_utils.forja.ollama import model as ollama
from plugins.module_utils.forja.ollama.api import Client, Meter, read_items
from plugins.module_utils.forja.ollama.model import Desired, Model, base_url, parse_name, plan, predict, read_desired, suggest
from plugins.modules import ollama_model
from tests.unit.lab.ollama_server import Ollama, Registry, standin

ROOT = Path(__file__).parents[3]
DIGEST, OTHER = "a" * 64, "b" * 64
# Ollama's own rule (types/model/name.go) in one expression.
VALID = re.compile(r"^(?:[A-Za-z0-9_][\w.:-]*/)?(?:[A-Za-z0-9_][\w-]*/)?[A-Za-z0-9_][\w.-]*(?::[A-Za-z0-9_][\w.-]*)?$", re.A)

spec = importlib.util.spec_from_file_location("ollama_action", ROOT / "plugins/action/ollama_model.py")
assert spec is not None
assert spec.loader is not None
action = importlib.util.module_from_spec(spec)
spec.loader.exec_module(action)


# Names

@pytest.mark.parametrize(("text", "shown"), [
    ("llama3.2", "llama3.2:latest"),
    ("llama3.2:3b", "llama3.2:3b"),
    ("library/llama3.2:3b-instruct-q4_K_M", "llama3.2:3b-instruct-q4_K_M"),
    ("registry.ollama.ai/library/llama3.2", "llama3.2:latest"),
    ("mannix/llama3.1-8b-abliterated:q8_0", "mannix/llama3.1-8b-abliterated:q8_0"),
    ("hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M", "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M"),
    ("localhost:5000/library/x", "localhost:5000/library/x:latest"),
])
def test_names_are_shown_as_ollama_lists_them(text: str, shown: str) -> None:
    assert str(parse_name(text)) == shown


@pytest.mark.parametrize(("text", "meant"), [
    ("llama 3.2", "llama3.2"),
    ("llama 3.2 3b", "llama3.2:3b"),
    ("Llama 3.2 3B", "llama3.2:3b"),
    ("Llama3.2", "llama3.2"),
    ("library/Llama3.2:3b", "library/llama3.2:3b"),
    ("llama3.2 3b", "llama3.2:3b"),
    ("llama3.2 : 3b", "llama3.2:3b"),
    ("llama3.2:3b instruct", "llama3.2:3b-instruct"),
    ("llama3.2 latest", "llama3.2:latest"),
    ("llama3.2:", "llama3.2"),
    (" llama3.2\n", "llama3.2"),
    ('"llama3.2"', "llama3.2"),
    ("ollama pull llama3.2", "llama3.2"),
    ("ollama run llama 3.2", "llama3.2"),
    ("$ sudo ollama pull llama3.2:3b", "llama3.2:3b"),
    ("deepseek coder v2", "deepseek-coder-v2"),
    ("phi 4 mini", "phi4-mini"),
    ("https://ollama.com/library/llama3.2:3b", "llama3.2:3b"),
    ("https://ollama.com/library/llama3.2/tags", "llama3.2"),
    ("ollama.com/library/llama3.2", "llama3.2"),
    ("https://ollama.com/mannix/llama3.1-8b-abliterated", "mannix/llama3.1-8b-abliterated"),
    ("https://huggingface.co/bartowski/Llama-3.2-3B-Instruct-GGUF/tree/main", "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF"),
    (f"llama3.2:3b@sha256:{DIGEST}", "llama3.2:3b"),
    ("", None), ("   ", None), ("../../etc/passwd", None), ("a/b/c/d", None), ("llama3.2:3b:q4", None), ("ünï", None), ("-x", None),
    ("x" * 81, None), ("hf.co/model", None),
])
def test_bad_names_are_refused_with_the_one_that_was_meant(text: str, meant: str | None) -> None:
    assert suggest(text) == meant
    with pytest.raises(ForjaError, match="is not the name of a model") as error:
        parse_name(text)
    assert (f'Did you mean "{meant}"?' in str(error.value)) == (meant is not None)


@given(st.text(st.sampled_from("aZ0_.-:/ 3é\n"), max_size=30) | st.text(max_size=20))
def test_what_is_accepted_or_suggested_is_valid_to_ollama(text: str) -> None:
    try:
        name = parse_name(text)
    except ForjaError:
        meant = suggest(text)
        assert meant is None or parse_name(meant)
    else:
        assert VALID.match(text)
        assert not text.endswith("\n")
        assert parse_name(str(name)) == name
        assert VALID.match(str(name))


@pytest.mark.parametrize(("name", "cloud"), [
    ("gpt-oss:120b-cloud", True), ("minimax-m2:cloud", True), ("some-cloud", True),
    ("gpt-oss:120b", False), ("word-cloud:7b", False), ("registry.lan/team/x:cloud", False),
])
def test_cloud_models_have_nothing_to_pull(name: str, cloud: bool) -> None:
    if cloud:
        with pytest.raises(ForjaError, match="cloud model"):
            read_desired(name, "present", None)
    else:
        assert read_desired(name, "present", None)
    assert read_desired(name, "absent", None)


@pytest.mark.parametrize(("text", "url"), [
    ("http://127.0.0.1:11434", "http://127.0.0.1:11434"), ("127.0.0.1", "http://127.0.0.1:11434"), ("gpu1:8080", "http://gpu1:8080"),
    ("http://gpu1", "http://gpu1:80"), ("https://gpu1", "https://gpu1:443"), ("https://gpu1/ollama/", "https://gpu1:443/ollama"),
    ("", "http://127.0.0.1:11434"), (":8080", "http://127.0.0.1:8080"), ("0.0.0.0", "http://127.0.0.1:11434"), ("[::]:1234", "http://[::1]:1234"),
    ("::1", "http://[::1]:11434"), (' "gpu1" ', "http://gpu1:11434"),
])
def test_host_takes_the_forms_of_ollama_host(text: str, url: str) -> None:
    assert base_url(text) == url


@pytest.mark.parametrize("text", ["gpu 1", "gpu1:http", "gpu1:70000", "ftp://gpu1", "user@gpu1"])
def test_other_hosts_are_refused(text: str) -> None:
    with pytest.raises(ForjaError, match="is not an address"):
        base_url(text)


@pytest.mark.parametrize("text", ["a80c4f17acd5", "sha256:", "z" * 64, "a" * 65])
def test_short_and_wrong_digests_are_refused(text: str) -> None:
    with pytest.raises(ForjaError, match="not a sha256"):
        ollama.parse_digest(text)


@pytest.mark.parametrize("state", ["latest", "absent"])
def test_a_digest_goes_with_present_only(state: str) -> None:
    with pytest.raises(ForjaError, match="state=present only"):
        read_desired("llama3.2", state, DIGEST)


# The plan

def model(digest: str) -> Model:
    return Model("llama3.2:latest", digest, 1, "", {})


@pytest.mark.parametrize(("there", "state", "digest", "steps", "after"), [
    (None, "present", None, ["pull"], ""),
    (None, "present", DIGEST, ["pull"], DIGEST),
    (DIGEST, "present", None, [], DIGEST),
    (DIGEST, "present", DIGEST, [], DIGEST),
    (OTHER, "present", DIGEST, ["pull"], DIGEST),
    (None, "latest", None, ["pull"], ""),
    (DIGEST, "latest", None, ["pull"], DIGEST),
    (None, "absent", None, [], None),
    (DIGEST, "absent", None, ["delete"], None),
])
def test_plan_and_prediction(there: str | None, state: str, digest: str | None, steps: list[str], after: str | None) -> None:
    current, desired = there and model(there) or None, read_desired("llama3.2", state, digest)
    assert plan(current, desired) == steps
    predicted = predict(current, desired)
    assert (predicted and predicted.digest) == after
    if state != "latest" and after:
        assert plan(predicted, desired) == []


# The stream

def items(*chunks: bytes) -> list[dict[str, Any]]:
    return list(read_items(io.BytesIO(b"".join(chunks)).readline, "http://x/api/pull"))


def test_stream_reads_lines_and_takes_a_cut_line_for_the_end() -> None:
    assert items(b'{"status":"a"}\n', b"\n", b'{"status":"b"}\n', b'{"status":"pul') == [{"status": "a"}, {}, {"status": "b"}]
    assert items(b'{"status":"success"}') == [{"status": "success"}]


@pytest.mark.parametrize("rubbish", [
    b"<!doctype html>\n", b"\xff\xfe\x00\n", b"[1]\n", b"7\n", b"[" * 60000 + b"\n", b"{" + b" " * 70000, b"x" * 70000 + b"\n",
])
def test_stream_refuses_what_ollama_does_not_send(rubbish: bytes) -> None:
    with pytest.raises(ForjaError, match="does not answer as Ollama does"):
        items(rubbish)


@given(st.binary(max_size=200))
def test_stream_survives_any_bytes(data: bytes) -> None:
    with contextlib.suppress(ForjaError):
        assert all(isinstance(item, dict) for item in items(data))


class Script:
    """An opener that gives one answer after the other for /api/pull: lines, or an exception."""

    def __init__(self, *answers: list[dict[str, Any]] | Exception, tags: bytes = b'{"models":[]}') -> None:
        self.answers, self.tags, self.calls = list(answers), tags, 0

    def __call__(self, url: str, method: str, data: bytes | None, timeout: float) -> io.BytesIO:
        if not url.endswith("/api/pull"):
            return io.BytesIO(self.tags)
        self.calls += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(b"".join(json.dumps(item).encode() + b"\n" for item in answer))


def at(done: int, total: int = 100) -> dict[str, Any]:
    return {"status": "pulling aaa", "digest": "sha256:aaa", "total": total, **({"completed": done} if done else {})}


START, END = {"status": "pulling manifest"}, [{"status": "verifying sha256 digest"}, {"status": "writing manifest"}, {"status": "success"}]


def pull(script: Callable[..., Any], timeout: float = 5) -> Meter:
    return Client("http://127.0.0.1:11434", script, sleep=lambda _: None).pull("llama3.2:latest", timeout)


def paused(script: Callable[..., Any], beyond: int = 0) -> Status | None:
    """Where a slice that is over at once pauses the pull, None where it does not."""
    progress = Progress("llama3.2:latest", part={"seconds": 1e-9, "beyond": beyond}, folder="/nonexistent")
    try:
        Client("http://127.0.0.1:11434", script).pull("llama3.2:latest", 5, progress)
    except PausedError as pause:
        return pause.status
    return None


def test_pull_counts_what_came() -> None:
    meter = pull(Script([START, at(0), at(60), at(100), *END]))
    assert (meter.pulled, meter.total) == (100, 100)
    meter = pull(Script([START, at(100), *END]))  # everything was there already
    assert meter.pulled == 0


def test_pull_goes_on_after_broken_connections_while_they_bring_something() -> None:
    script = Script(*([START, at(n)] for n in range(10, 90, 10)), ConnectionResetError("reset"), [START, at(90), at(100), *END])
    meter = pull(script)
    assert (meter.pulled, script.calls) == (90, 10)


def test_pull_gives_up_when_broken_connections_bring_nothing() -> None:
    script = Script(*[[START, at(10)]] * 20)
    with pytest.raises(ForjaError, match=r"broke 6 times without progress, at 10 B of 100 B"):
        pull(script)
    assert script.calls == 6


@pytest.mark.parametrize(("error", "advice"), [
    ("write /models/blobs/x: no space left on device", "make room"),
    ("pull model manifest: file does not exist", "no such model or tag"),
    ("digest mismatch, file must be downloaded again: want sha256:a, got sha256:b", "damaged"),
    ("pull model manifest: 412: The model you are attempting to pull requires a newer version of Ollama.", "set ollama_version"),
    ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "certificate authority"),
    ("dial tcp: lookup registry.ollama.ai: no such host", "check its DNS"),
    ("dial tcp 192.0.2.1:443: i/o timeout", "HTTPS_PROXY"),
    ("pull model manifest: 401: unauthorized", "private or gated"),
    ("the specified repository contains sharded GGUF. Ollama does not support this yet.", "one file"),
    ("something new", "something new."),
])
def test_errors_within_the_stream_are_errors_with_advice(error: str, advice: str) -> None:
    script = Script([START, at(10), {"error": error}])
    with pytest.raises(ForjaError, match=advice) as raised:
        pull(script)
    assert error in str(raised.value)
    assert script.calls == 1


def test_repository_of_hugging_face_is_recognised() -> None:
    assert "hf.co/bartowski/Some-GGUF," in ollama_api.explain("bartowski/Some-GGUF:latest", "pull model manifest: file does not exist")


def test_broken_connection_to_ollama_is_no_fault_of_the_registry() -> None:
    assert "registry" not in ollama_api.explain("x", "the connection to http://127.0.0.1:1 broke 6 times: Connection refused")


def test_only_success_as_the_last_word_is_success() -> None:
    with pytest.raises(ForjaError, match="disk on fire"):
        pull(Script([START, *END, {"error": "disk on fire"}]))
    with pytest.raises(ForjaError, match="ended at 'writing manifest'"):
        pull(Script(*[[START, *END[:2]]] * 9))


class Endless(io.RawIOBase):
    """An answer that repeats a line for ever, or says nothing more."""

    def __init__(self, line: dict[str, Any] | None) -> None:
        self.begun, self.text, self.gone = False, json.dumps(line or START).encode() + b"\n", threading.Event()
        self.silent = line is None

    def readline(self, limit: int | None = -1, /) -> bytes:
        if self.begun:
            self.gone.wait(10 if self.silent else 0.01)
        self.begun = True
        return self.text


@pytest.mark.parametrize("line", [None, at(40)])
def test_pull_gives_up_on_a_server_that_makes_no_progress(line: dict[str, Any] | None) -> None:
    start, answer = time.monotonic(), Endless(line)
    with pytest.raises(ForjaError, match="no progress for 0 s.*What is there is kept"):
        pull(lambda *_: answer, timeout=0.3)
    assert time.monotonic() - start < 3
    answer.gone.set()


def test_the_check_of_digests_may_be_silent_for_as_long_as_it_takes_to_read_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama_api, "VERIFY_RATE", 100)

    class Slow(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            line = super().readline(size)
            time.sleep(0.5 if b"writing" in line else 0)
            return line

    lines = b"".join(json.dumps(item).encode() + b"\n" for item in [START, at(0), at(100), *END])
    assert pull(lambda *_: Slow(lines), timeout=0.2).completed == 100


def test_a_slice_ends_in_a_download_that_progresses_and_nowhere_else() -> None:
    lines = [START, at(10), at(20), at(30), at(99), at(100), *END]
    assert paused(Script(lines)) == Status("llama3.2:latest", 20, 100, "bytes", "", 10)
    later = paused(Script(lines), beyond=30)
    assert later
    assert later.done == 99
    assert paused(Script(lines), beyond=99) is None
    assert paused(Script([START, at(10), at(10), at(100), *END])) is None, "nothing came before it was all there"


# The server's other answers

def refuse(code: int, body: bytes) -> Callable[..., Any]:
    def opener(url: str, *_: Any) -> Any:
        raise urllib.error.HTTPError(url, code, "", Message(), io.BytesIO(body))
    return opener


@pytest.mark.parametrize(("opener", "says"), [
    (refuse(403, b""), "Host: localhost:11434"),
    (refuse(404, b"<html>nginx</html>"), r"does not answer as Ollama does but with '<html>nginx</html>'.*status 404"),
    (refuse(503, b'{"error":"server busy, please try again"}'), "server busy"),
    (Script(tags=b"<!doctype html><title>Grafana"), "Another program listens there"),
    (Script(tags=b'{"models":[{"name":1}]}'), "Another program listens there"),
    (Script(tags=b"[]"), "Another program listens there"),
])
def test_what_else_answers_is_named(opener: Callable[..., Any], says: str) -> None:
    with pytest.raises(ForjaError, match=says):
        Client("http://127.0.0.1:11434", opener).find(parse_name("llama3.2"))


def test_no_server_says_what_to_do() -> None:
    def opener(*_: Any) -> Any:
        raise urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))
    with pytest.raises(ForjaError, match=r"No Ollama server answers.*refused.*systemctl status ollama"):
        Client("http://127.0.0.1:11434", opener).find(parse_name("llama3.2"))


def test_models_are_found_whatever_their_case_and_an_empty_list_may_be_null() -> None:
    tags = json.dumps({"models": [{"name": "Team/X:Latest", "digest": f"sha256:{DIGEST}", "size": 5}]}).encode()
    found = Client("http://x", Script(tags=tags)).find(parse_name("team/x"))
    assert found == Model("Team/X:Latest", DIGEST, 5, "", {})
    assert Client("http://x", Script(tags=b'{"models":null}')).find(parse_name("x")) is None


# The action plugin

def merged(first: dict[str, Any], last: dict[str, Any], gained: int) -> Any:
    return action.ActionModule.merge(None, first, last, gained)


def test_the_results_of_slices_make_one() -> None:
    first = {"before": None, "model": None, "steps": ["pull"], "bytes_pulled": 10, "diff": {"before": "absent", "after": "absent"}}
    # The server finished between two slices, so that the last one found nothing to do.
    last = {"changed": False, "before": {"digest": DIGEST}, "model": {"digest": DIGEST}, "steps": [], "bytes_pulled": 0,
            "diff": {"before": DIGEST, "after": DIGEST}}
    assert merged(first, last, 25) == {"changed": True, "before": None, "model": {"digest": DIGEST}, "steps": ["pull"],
                                       "bytes_pulled": 25, "diff": {"before": "absent", "after": DIGEST}}
    assert merged(first, {"failed": True, "msg": "full"}, 25) == {"failed": True, "msg": "full"}


# With the stand-in

@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry.run() as server:
        yield server


def client(server: Ollama, **options: Any) -> Client:
    def opener(url: str, method: str, data: bytes | None, timeout: float) -> Any:
        return urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=timeout)
    return Client(base_url(server.host), opener, **options)


def desired(digest: str | None = None, state: str = "present") -> Desired:
    return read_desired("llama3.2:3b", state, digest)


def ensure(server: Ollama, wanted: Desired) -> Model | None:
    """The module without Ansible."""
    api = client(server)
    before = api.find(wanted.name)
    steps = plan(before, wanted)
    if "pull" in steps:
        api.pull(str(wanted.name), 10)
    return ollama_api.apply(api, before, wanted) if steps else before


def test_pull_pin_follow_and_delete(tmp_path: Path, registry: Registry) -> None:
    first = registry.publish("llama3.2:3b", 100_000)
    with standin(tmp_path, registry) as server:
        there = ensure(server, desired(first))
        assert there
        assert (there.digest, there.size > 100_000) == (first, True)
        second = registry.publish("llama3.2:3b", 200_000)
        assert plan(there, desired(first)) == plan(there, desired()) == []
        moved = ensure(server, desired(state="latest"))
        assert moved
        assert moved.digest == second
        assert ensure(server, desired(state="absent")) is None
        assert not list((server.models / "blobs").iterdir())


def test_a_wrong_digest_is_an_error_and_what_it_brought_goes_again(tmp_path: Path, registry: Registry) -> None:
    first = registry.publish("llama3.2:3b", 100_000)
    with standin(tmp_path, registry) as server:
        with pytest.raises(ForjaError, match=f"found {first}, wanted {OTHER}.*found has been removed"):
            ensure(server, desired(OTHER))
        assert client(server).find(desired().name) is None
        ensure(server, desired())
        with pytest.raises(ForjaError, match="was here before and is left as it is"):
            ensure(server, desired(OTHER))
        assert client(server).find(desired().name)


def test_a_killed_client_leaves_what_the_next_pull_goes_on_from(tmp_path: Path, registry: Registry) -> None:
    registry.publish("llama3.2:3b")
    with standin(tmp_path, registry, rate=3_000_000) as server:
        puller = subprocess.Popen([sys.executable, str(server.program), "pull", "llama3.2:3b"], env=server.environment,
                                  stderr=subprocess.DEVNULL)
        while server.partial() < 500_000:
            time.sleep(0.02)
        puller.kill()
        puller.wait()
        time.sleep(0.4)
        kept = server.partial()
        time.sleep(0.3)
        assert 500_000 <= kept == server.partial() < 3_000_000, "the server did not stop when its client was gone"
        meter = client(server).pull("llama3.2:3b", 10)
        assert registry.ranges == [f"bytes={kept}-"]
        assert meter.pulled < 3_000_000


def test_a_server_that_dies_in_a_pull_is_waited_for(tmp_path: Path, registry: Registry) -> None:
    digest = registry.publish("llama3.2:3b", 2_000_000)
    with standin(tmp_path, registry, rate=2_000_000) as server:
        threading.Timer(0.5, server.kill).start()
        client(server, sleep=lambda _: server.start()).pull("llama3.2:3b", 10)
        found = client(server).find(desired().name)
    assert found
    assert found.digest == digest
    assert registry.ranges


def test_a_registry_that_breaks_off_is_an_error_and_the_next_pull_goes_on(tmp_path: Path, registry: Registry) -> None:
    registry.publish("llama3.2:3b")
    with standin(tmp_path, registry) as server:
        registry.cut = 1_000_000
        with pytest.raises(ForjaError, match="unexpected EOF"):
            ensure(server, desired())
        assert ensure(server, desired())
        assert registry.ranges == ["bytes=1000000-"]


def test_a_damaged_download_is_an_error_and_not_kept(tmp_path: Path, registry: Registry) -> None:
    registry.publish("llama3.2:3b")
    registry.damage = True
    with standin(tmp_path, registry) as server:
        with pytest.raises(ForjaError, match="digest mismatch.*run again"):
            ensure(server, desired())
        assert not list((server.models / "blobs").iterdir())
        registry.damage = False
        assert ensure(server, desired())


# The module and its action plugin, through Ansible

def test_documentation_is_the_argument_spec() -> None:
    documented = yaml.safe_load(ollama_model.DOCUMENTATION)["options"]
    actual = ollama_model.argument_spec()
    assert list(documented) == list(actual)
    for name, option in actual.items():
        assert documented[name].get("default") == option.get("default"), name
        assert documented[name]["type"] == option["type"], name
        assert documented[name].get("choices") == option.get("choices"), name


PLAY = """
- hosts: all
  gather_facts: false
  vars: {forja_progress: 0.4, host: "%s"}
  tasks:
    - ollama_model: {name: llama3.2:3b, host: "{{ host }}"}
      check_mode: true
      register: predicted
    - ollama_model: {name: llama3.2:3b, host: "{{ host }}"}
      register: first
    - ollama_model: {name: llama3.2:3b, host: "{{ host }}", digest: "%s"}
      register: second
    - ollama_model: {name: llama 3.2, host: "{{ host }}"}
      register: refused
      failed_when: "'Did you mean \\"llama3.2\\"?' not in refused.msg"
    - ansible.builtin.copy:
        content: "{{ [predicted, first, second] | to_json }}"
        dest: "%s"
"""


def test_a_long_pull_prints_its_progress_and_the_second_run_changes_nothing(tmp_path: Path, registry: Registry) -> None:
    digest = registry.publish("llama3.2:3b", 2_000_000)
    results, play = tmp_path / "results.json", tmp_path / "play.yml"
    with standin(tmp_path, registry, rate=1_200_000) as server:
        play.write_text(PLAY % (server.host, digest, results))
        run = subprocess.run([Path(sys.executable).with_name("ansible-playbook"), "-i", "ws12,", "-c", "local", "--diff", "-vvv",
                              "-e", f"ansible_python_interpreter={sys.executable}", play], cwd=ROOT, check=False, text=True,
                             capture_output=True, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")})
    assert run.returncode == 0, run.stdout + run.stderr
    predicted, first, second = json.loads(results.read_text())
    assert (predicted["changed"], first["changed"], second["changed"]) == (True, True, False)
    lines = re.findall(r"^ws12: llama3\.2:3b (\d+) % of 2 MB, \d+ [kM]B/s, \d+ s left$", run.stdout, re.M)
    assert lines, run.stdout
    assert lines == sorted(lines, key=int)
    assert registry.ranges, "the pull was not cut into slices"
    assert (first["before"], first["model"]["digest"], second["model"]) == (None, digest, first["model"])
    assert first["bytes_pulled"] > 1_000_000
    assert "module_args:" in run.stdout
    assert "slice:" not in run.stdout
    assert f"-llama3.2:3b: absent\n+llama3.2:3b: {digest}" in run.stdout
