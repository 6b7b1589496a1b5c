# SPDX-License-Identifier: Apache-2.0
"""The summary after the recap: the layout as a table, and the way from set_stats to the screen in a real run."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plugins.callback.forja_summary import describe, lines

REPO = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("custom", "expected"),
    [
        pytest.param({}, [], id="no statistics"),
        pytest.param({"ws13": {"other": {"docker": "x"}}}, [], id="statistics of others"),
        pytest.param({"ws13": {"forja": "a sentence"}}, [], id="not a dictionary"),
        pytest.param({"ws13": {"forja": {}}}, ["ws13   Debian 13"], id="a host without roles"),
        pytest.param({"x": {"forja": {"mig": "off"}}}, ["x", "    mig  off"], id="a host that is not described"),
        pytest.param(
            {"ws13": {"forja": {"docker": "Docker 26", "ollama": "Ollama"}}, "a": {"forja": {}}},
            ["a      Ubuntu", "ws13   Debian 13", "       docker  Docker 26", "       ollama  Ollama"],
            id="columns across hosts",
        ),
        pytest.param({"h": {"forja": {"docker": "one\n  two"}}}, ["h", "    docker  one two"], id="a sentence of two lines"),
    ],
)
def test_layout(custom: dict[str, Any], expected: list[str]) -> None:
    assert lines(custom, {"ws13": "Debian 13", "a": "Ubuntu", "silent": "Debian 12"}) == expected


DEBIAN = {"ansible_distribution": "Debian", "ansible_distribution_version": "13.7", "ansible_distribution_release": "trixie",
          "ansible_architecture": "x86_64"}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({**DEBIAN, "ansible_default_ipv4": {"address": "192.0.2.13"}}, "Debian 13.7 (trixie), x86_64, 192.0.2.13"),
        ({**DEBIAN, "ansible_default_ipv4": {}}, "Debian 13.7 (trixie), x86_64, no address"),
        ({"gpu": {"summary": "no GPU"}}, ""),
    ],
)
def test_what_a_machine_is(facts: dict[str, Any], expected: str) -> None:
    assert describe(facts) == expected


def run(tmp_path: Path, tasks: str, gather: bool = False) -> list[str]:
    """What a playbook with these tasks prints from the recap on, on two hosts that are this machine."""
    playbook = tmp_path / "play.yml"
    playbook.write_text(f"- hosts: all\n  connection: local\n{PYTHON}  gather_facts: {str(gather).lower()}\n  tasks:\n{tasks}")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "ws12,ws13,", str(playbook)],
        cwd=REPO,
        env={**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, recap, after = done.stdout.partition("PLAY RECAP")
    assert recap, done.stdout
    return [line for line in after.splitlines()[1:] if line and " : ok=" not in line]


PYTHON = '  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}\n'
STATS = """
    - ansible.builtin.set_stats:
        per_host: true
        aggregate: true
        data:
          forja:
            {key}: "{text}"
"""


def test_each_role_adds_its_sentence_and_the_summary_follows_the_recap(tmp_path: Path) -> None:
    tasks = [("docker", "Docker {{ 26 }}"), ("ollama", "Ollama of {{ inventory_hostname }}")]
    assert run(tmp_path, "".join(STATS.replace("{key}", key).replace("{text}", text) for key, text in tasks)) == [
        "ws12",
        "       docker  Docker 26",
        "       ollama  Ollama of ws12",
        "ws13",
        "       docker  Docker 26",
        "       ollama  Ollama of ws13",
    ]


def test_the_gathered_facts_say_what_the_machine_is(tmp_path: Path) -> None:
    told = run(tmp_path, STATS.replace("{key}", "docker").replace("{text}", "Docker"), gather=True)
    assert re.match(rf"ws12   \S.* \(\S+\), {platform.machine()}, ", told[0]), told


def test_a_run_without_sentences_ends_with_the_recap(tmp_path: Path) -> None:
    assert run(tmp_path, "    - ansible.builtin.meta: noop\n") == []
