# SPDX-License-Identifier: Apache-2.0
"""The summary after the recap: the layout as a table, and the way from `report` to the screen in a real run."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.callback.forja_summary import Machine, describe, folded, lines, read_by_a_program

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
    assert lines(custom, {"ws13": Machine("Debian 13"), "a": Machine("Ubuntu"), "silent": Machine("Debian 12")}) == expected


def report(summary: str, **rest: Any) -> dict[str, Any]:
    return {"summary": summary, "version": "", "endpoints": [], "reboot": [], "problems": [], **rest}


def test_reasons_and_problems_follow_where_no_sentence_says_them() -> None:
    custom = {"h": {"forja": {
        "gpu": report("1 problem (driver mismatch)", problems=["The driver does not match:\n reboot."], reboot=["nouveau holds the GPU"]),
        "driver": report("580; reboot required: nouveau holds the GPU", reboot=["nouveau holds the GPU", "another reason"]),
        "reboot": report("required", reboot=["another reason"]),
    }}}
    assert lines(custom, {}) == [
        "h",
        "    gpu     1 problem (driver mismatch)",
        "            problem: The driver does not match: reboot.",
        "    driver  580; reboot required: nouveau holds the GPU",
        "            reboot required: another reason",
        "    reboot  required",
    ]


def site(number: int, **others: str) -> list[str]:
    """The summary of hosts gpu01, gpu02, ..., all equal but for `others` (host -> driver)."""
    names = [f"gpu{at:02}" for at in range(1, number + 1)]
    return lines({name: {"forja": {"driver": report(others.get(name, "580"))}} for name in names},
                 {name: Machine("Debian 13", f"192.0.2.{name[3:]}") for name in names})


def test_many_equal_hosts_share_their_lines() -> None:
    assert site(12, gpu03="595") == [
        "gpu01,gpu02,gpu[04:12]   Debian 13, 11 hosts",
        " " * 25 + "driver  580",
        "gpu03                    Debian 13, 192.0.2.03",
        " " * 25 + "driver  595",
    ]


def test_ten_hosts_have_their_own_lines() -> None:
    assert len(site(10)) == 20
    assert len(site(11)) == 2


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a"], "a"),
        (["b", "a"], "a,b"),
        (["gpu1", "gpu2", "gpu3", "gpu10"], "gpu[1:3],gpu10"),
        (["gpu08", "gpu09", "gpu10", "gpu7"], "gpu7,gpu[08:10]"),
        (["n1.site", "n2.site", "n3.site", "n3.other"], "n[1:3].site,n3.other"),
        (["r1n1", "r1n2", "r1n3", "r2n1"], "r1n[1:3],r2n1"),
    ],
)
def test_names_are_folded_into_ranges(names: list[str], expected: str) -> None:
    assert set(folded(names).split(",")) == set(expected.split(","))


@pytest.mark.parametrize(
    ("name", "silent"),
    [
        *((name, True) for name in ("json", "ansible.posix.json", "ansible.posix.jsonl", "community.general.null")),
        *((name, False) for name in ("default", "ansible.posix.debug", "oneline")),
    ],
)
def test_it_is_silent_where_a_program_reads(name: str, silent: bool) -> None:
    assert read_by_a_program(name) is silent


DEBIAN = {"ansible_distribution": "Debian", "ansible_distribution_version": "13.7", "ansible_distribution_release": "trixie",
          "ansible_architecture": "x86_64"}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({**DEBIAN, "ansible_default_ipv4": {"address": "192.0.2.13"}}, Machine("Debian 13.7 (trixie), x86_64", "192.0.2.13")),
        ({**DEBIAN, "ansible_default_ipv4": {}}, Machine("Debian 13.7 (trixie), x86_64", "no address")),
        ({"gpu": {"summary": "no GPU"}}, Machine()),
    ],
)
def test_what_a_machine_is(facts: dict[str, Any], expected: Machine) -> None:
    assert describe(facts) == expected


class Play:
    """A playbook of roles that report, on two hosts that are this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.roles = folder, list[str]()

    def role(self, name: str, tasks: str) -> None:
        file = self.folder / "roles" / name / "tasks/main.yml"
        file.parent.mkdir(parents=True)
        file.write_text(tasks)
        self.roles.append(name)

    def run(self, *arguments: str, callback: str = "default", gather: bool = False) -> str:
        play = {"hosts": "all", "connection": "local", "gather_facts": gather, "roles": self.roles,
                "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}}
        (self.folder / "play.yml").write_text(yaml.safe_dump([play]))
        ours = {"ANSIBLE_CONFIG": str(REPO / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0",
                "ANSIBLE_STDOUT_CALLBACK": callback, "ANSIBLE_SHOW_CUSTOM_STATS": str(callback != "default"),
                "ANSIBLE_ROLES_PATH": str(self.folder / "roles")}
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "ws12,ws13,", "play.yml", *arguments]
        done = subprocess.run(command, cwd=self.folder, env={**os.environ, **ours}, capture_output=True, text=True, check=False)
        self.rc = done.returncode
        return done.stdout if callback != "default" else done.stdout + done.stderr

    def summary(self, *arguments: str, gather: bool = False) -> list[str]:
        """What is printed after the recap."""
        output = self.run(*arguments, gather=gather)
        assert self.rc == 0, output
        _, recap, after = output.partition("PLAY RECAP")
        assert recap, output
        return [line for line in after.splitlines()[1:] if line and " : ok=" not in line]


REPORT = """
- report:
    summary: "%s"
    reboot: "{{ ['nouveau'] if inventory_hostname == 'ws13' else [] }}"
  register: forja_reports
"""


@pytest.fixture
def play(tmp_path: Path) -> Play:
    made = Play(tmp_path)
    made.role("docker", REPORT % "Docker {{ 26 }}")
    made.role("ollama", REPORT % "Ollama of {{ inventory_hostname }}")
    return made


def test_each_role_adds_its_sentence_and_the_summary_follows_the_recap(play: Play) -> None:
    assert play.summary() == [
        "ws12",
        "       docker  Docker 26",
        "       ollama  Ollama of ws12",
        "ws13",
        "       docker  Docker 26",
        "               reboot required: nouveau",
        "       ollama  Ollama of ws13",
    ]


def test_later_roles_know_what_earlier_ones_reported(play: Play) -> None:
    play.role("other", "- ansible.builtin.debug: {msg: 'KNOWN {{ forja_reports.roles.docker.reboot }} {{ forja_reports.roles | list }}'}\n")
    output = play.run("--check")
    assert "KNOWN ['nouveau'] ['docker', 'ollama']" in output, output


def test_a_check_reports_to_later_roles_and_not_to_the_summary(play: Play) -> None:
    assert play.summary("--check") == []


def test_a_report_without_a_sentence_is_refused(play: Play) -> None:
    play.role("mute", REPORT % "")
    assert "The report of mute has no summary" in play.run()
    assert play.rc == 2


def test_output_that_a_program_reads_is_not_spoilt(play: Play) -> None:
    found = json.loads(play.run(callback="ansible.posix.json"))
    assert found["custom_stats"]["ws13"]["forja"]["docker"] == report("Docker 26", reboot=["nouveau"])


def test_the_gathered_facts_say_what_the_machine_is(play: Play) -> None:
    first = play.summary(gather=True)[0]
    assert re.match(rf"ws12   \S.* \(\S+\), {platform.machine()}, ", first), first


def test_a_run_without_sentences_ends_with_the_recap(tmp_path: Path) -> None:
    quiet = Play(tmp_path)
    quiet.role("quiet", "- ansible.builtin.meta: noop\n")
    assert quiet.summary() == []
