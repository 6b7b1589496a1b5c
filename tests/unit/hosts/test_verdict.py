# SPDX-License-Identifier: Apache-2.0
"""The lines of `make verify`, made by running pytest on host tests that have no host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts.verdict import Subject, compare, sentence, subject

ROOT = Path(__file__).resolve().parents[3]
CONFTEST = """
import pytest
from tests.hosts.verdict import UNREACHABLE, Verdicts, compare

def pytest_addoption(parser):
    parser.addoption("--ansible-inventory")

def pytest_configure(config):
    config.addinivalue_line("markers", "host")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Verdicts(config), "verdicts")

def pytest_assertrepr_compare(op, left, right):
    return [compare(op, left, right)]

class Service:
    is_running = False
    def __repr__(self):
        return "<service ollama>"

@pytest.fixture(params=["ansible://ws12", "ansible://ws13"], ids=str)
def host(request):
    if request.param.endswith("ws13") and "unreachable" in request.node.name:
        pytest.fail(UNREACHABLE + "Connection refused", pytrace=False)
    return Service()
"""
TESTS = """
import pytest
def test_service_runs(host): assert host.is_running
def test_users(host): assert {"admin"} - {"admin"} == set()
def test_settings(host): assert {"log-driver": "local"} == {"log-driver": "json-file"}, "the engine has other settings"
def test_unreachable(host): pass
def test_unreachable_again(host): pass
@pytest.mark.skip
def test_other(host): pass
"""


@pytest.fixture(scope="module", params=[0, 2], ids=["one process", "workers"])
def output(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[str]:
    """What a run with failures on two hosts prints."""
    tmp_path = tmp_path_factory.mktemp("tests")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_ollama.py").write_text(TESTS)
    (tmp_path / "mine.yml").write_text("all: {hosts: {ws12: {}, ws13: {}}}")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -q --import-mode=importlib\n")
    argv = [sys.executable, "-m", "pytest", f"--numprocesses={request.param}", "--tb=no", "-rN", "--ansible-inventory=mine.yml",
            "-p", "no:cacheprovider", "-p", "no:pytest11.testinfra"]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.strip()]


def test_a_line_for_each_failure(output: list[str]) -> None:
    to_do = "To do: ansible-playbook --inventory mine.yml site.yml --limit ws12 --tags ollama"
    assert f"ws12  ollama        service runs: <service ollama>.is_running is False. {to_do}" in output
    settings = "found {'log-driver': 'local'}, expected {'log-driver': 'json-file'}"
    assert f"ws12  ollama        settings: the engine has other settings ({settings}). {to_do}" in output


def test_a_line_for_each_role_of_a_host(output: list[str]) -> None:
    assert "ws12  ollama        2 of 5 FAILED" in output


def test_an_unreachable_host_is_one_line(output: list[str]) -> None:
    assert [line for line in output if "reachable" in line and "Not" in line] == ["ws13  Not reachable: Connection refused"]


def test_nothing_else_is_printed_but_the_sum(output: list[str]) -> None:
    rest = [line for line in output if not line.startswith(("ws12  ", "ws13  ", "bringing up nodes"))]
    assert len(rest) == 1
    assert rest[0].startswith("6 failed, 4 passed, 2 skipped")


@pytest.mark.parametrize(("nodeid", "wanted"), [
    ("tests/hosts/test_nvidia_driver.py::test_the_set_is_held[ansible://gpu-1.example.org]",
     Subject("gpu-1.example.org", "nvidia_driver", "the set is held")),
    ("tests/hosts/test_mig.py::test_profile[ansible://gpu-1-3g.40gb]", Subject("gpu-1", "mig", "profile (3g.40gb)")),
    ("tests/hosts/test_docker.py::test_group[ansible://ws12]", Subject("ws12", "docker", "group")),
    ("tests/unit/test_x.py::test_y", None),
])  # fmt: skip
def test_subject(nodeid: str, wanted: Subject | None) -> None:
    assert subject(nodeid, ["gpu", "gpu-1", "gpu-1.example.org", "ws12"]) == wanted


@pytest.mark.parametrize(("operator", "left", "right", "wanted"), [
    ("==", 1, 2, "found 1, expected 2"),
    ("is", False, True, "found False, expected True"),
    ("in", "a", ["b"], "'a' is missing in ['b']"),
    ("not in", "a", "ab", "'a' must not be in 'ab'"),
    ("<=", {"a", "b"}, {"b"}, "missing: ['a']"),
    (">=", {"b"}, {"a", "b"}, "missing: ['a']"),
    (">", 1, 2, "found 1, expected > 2"),
])  # fmt: skip
def test_compare(operator: str, left: object, right: object, wanted: str) -> None:
    assert compare(operator, left, right) == wanted


@pytest.mark.parametrize(("message", "wanted"), [
    ("AssertionError: assert found 1, expected 2", "found 1, expected 2"),
    ("assert not True\n +  where True = <file /etc/x>.exists", "<file /etc/x>.exists is True"),
    ("AssertionError: leftovers: ['a']\nassert found 2, expected 1\n +  where 2 = len(['a'])", "leftovers: ['a'] (found 2, expected 1)"),
    ("AssertionError: Unexpected exit code 7 for CommandResult(command=b'curl x', exit_status=7, stdout=b'', stderr=b'refused')",
     "`curl x` ended with 7: refused"),
    ("KeyError: 'digest'", "KeyError: 'digest'"),
])  # fmt: skip
def test_sentence(message: str, wanted: str) -> None:
    assert sentence(message) == wanted


def test_a_sentence_has_an_end() -> None:
    assert len(sentence("x" * 10_000)) <= 400
