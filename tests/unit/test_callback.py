# SPDX-License-Identifier: Apache-2.0
"""The summary after the recap: the layout as a table, and the way from set_stats to the screen in a real run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plugins.callback.forja_summary import lines

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("custom", "expected"),
    [
        pytest.param({}, [], id="no statistics"),
        pytest.param({"ws13": {"other": {"docker": "x"}}}, [], id="statistics of others"),
        pytest.param({"ws13": {"forja": "a sentence"}}, [], id="not a dictionary"),
        pytest.param({"ws13": {"forja": {"host": "Debian 13"}}}, ["ws13   Debian 13"], id="a host without roles"),
        pytest.param({"ws13": {"forja": {"mig": "off"}}}, ["ws13", "       mig  off"], id="a host that is not described"),
        pytest.param(
            {"ws13": {"forja": {"host": "Debian 13", "docker": "Docker 26", "ollama": "Ollama"}}, "a": {"forja": {"host": "Ubuntu"}}},
            ["a      Ubuntu", "ws13   Debian 13", "       docker  Docker 26", "       ollama  Ollama"],
            id="columns across hosts",
        ),
        pytest.param({"h": {"forja": {"docker": "one\n  two"}}}, ["h", "    docker  one two"], id="a sentence of two lines"),
    ],
)
def test_layout(custom: dict[str, Any], expected: list[str]) -> None:
    assert lines(custom) == expected


def run(tmp_path: Path, tasks: str) -> list[str]:
    """What a playbook with these tasks prints from the recap on, on two hosts that are this machine."""
    playbook = tmp_path / "play.yml"
    playbook.write_text(f"- hosts: all\n  connection: local\n  gather_facts: false\n  tasks:\n{tasks}")
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


STATS = """
    - ansible.builtin.set_stats:
        per_host: true
        aggregate: true
        data:
          forja:
            {key}: "{text}"
"""


def test_each_role_adds_its_sentence_and_the_summary_follows_the_recap(tmp_path: Path) -> None:
    tasks = [("host", "Debian of {{ inventory_hostname }}"), ("docker", "Docker {{ 26 }}"), ("ollama", "Ollama, 1 model")]
    assert run(tmp_path, "".join(STATS.replace("{key}", key).replace("{text}", text) for key, text in tasks)) == [
        "ws12   Debian of ws12",
        "       docker  Docker 26",
        "       ollama  Ollama, 1 model",
        "ws13   Debian of ws13",
        "       docker  Docker 26",
        "       ollama  Ollama, 1 model",
    ]


def test_a_run_without_sentences_ends_with_the_recap(tmp_path: Path) -> None:
    assert run(tmp_path, "    - ansible.builtin.meta: noop\n") == []
