# SPDX-License-Identifier: Apache-2.0
"""After the recap: what each host is and what now runs on it, in the roles' own words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from ansible import constants
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: forja_summary
type: aggregate
short_description: Says after the recap what each host is and what runs on it
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Prints the custom statistic C(forja) of each host, a dictionary with one report a role. A report is a dictionary with C(summary), a
    sentence, C(version), and the lists C(endpoints), C(reboot) (reasons) and C(problems) (sentences); the roles make it with the action
    plugin C(report).
  - A line follows for each reason to reboot and each problem that no sentence of the host names yet.
  - Beside the host's name stands what the machine is, from the facts that the play gathered.
  - Of more than ten hosts, those with equal lines share them, under names such as C(gpu[01:24]), which C(--limit) understands.
  - Prints nothing when no role has anything to say, nor where the output is read by a program (C(ansible.posix.json),
    C(ansible.posix.jsonl)); with C(ANSIBLE_SHOW_CUSTOM_STATS=true) those hold the statistics themselves.
requirements:
  - enabled in the configuration, C(callbacks_enabled = forja_summary)
"""

HOST_GAP = 3
ROLE_GAP = 2
MANY = 10  # More hosts than this are grouped by equal lines.
WIDEST = 40  # characters of the hosts' column
RANGE = 3  # As many neighbours in a row are written as a range.
# Stdout callbacks whose output a program reads, or that mean to print nothing, by the last part of their name.
SILENT = re.compile(r"json\w*|null")

Row = tuple[str, str]  # role, text; the role is empty where a line goes on with the one before


class Machine(NamedTuple):
    """What a host is: its system, which many hosts share, and its address, which they do not."""

    system: str = ""
    address: str = ""

    def __str__(self) -> str:
        return ", ".join(part for part in self if part)


def lines(custom: Mapping[str, Mapping[str, Any]], machines: Mapping[str, Machine]) -> list[str]:
    """Render the summary of ``stats.custom``, which maps host -> statistic -> value; hosts without ``forja`` are left out."""
    reports = {host: stats["forja"] for host, stats in sorted(custom.items()) if isinstance(stats.get("forja"), Mapping)}
    blocks = [([host], machines.get(host, Machine()), _rows(report)) for host, report in reports.items()]
    table: list[tuple[str, str, str]] = []
    for names, machine, rows in _grouped(blocks) if len(blocks) > MANY else blocks:
        table += [(folded(names), "", str(machine)), *(("", role, text) for role, text in rows)]
    # A name of many ranges may be longer than the column.
    left = max((len(host) for host, _, _ in table if len(host) <= WIDEST), default=0)
    middle = max((len(role) for _, role, _ in table), default=0) + ROLE_GAP
    return [f"{host:{left}}{' ' * HOST_GAP}{role:{0 if host else middle}}{text}".rstrip() for host, role, text in table]


def _rows(reports: Mapping[str, Any]) -> list[Row]:
    """Render one row for each role in the order in which the roles ran, and what no sentence says yet below it."""
    sentences = {role: _sentence(report) for role, report in reports.items()}
    told = " ".join(sentences.values())
    rows = []
    for role, report in reports.items():
        rows.append((str(role), sentences[role]))
        for kind, text in _details(report):
            if text not in told:
                told += f" {text}"
                rows.append(("", f"{kind}: {text}"))
    return rows


def _sentence(report: Any) -> str:
    # A sentence is one line, whatever a program's version output brought along.
    return " ".join(str(report.get("summary", "") if isinstance(report, Mapping) else report).split())


def _details(report: Any) -> Iterator[Row]:
    for key, kind in (("reboot", "reboot required"), ("problems", "problem")) if isinstance(report, Mapping) else ():
        for text in report.get(key) or []:
            yield kind, " ".join(str(text).split())


Block = tuple[list[str], Machine, list[Row]]


def _grouped(blocks: Sequence[Block]) -> list[Block]:
    """Bring hosts with the same system and the same lines together, in the order of each group's first host."""
    groups: dict[tuple[str, tuple[Row, ...]], Block] = {}
    for names, machine, rows in blocks:
        group = groups.setdefault((machine.system, tuple(rows)), ([], machine, rows))
        group[0].extend(names)
    return [(names, machine if len(names) == 1 else Machine(machine.system, f"{len(names)} hosts"), rows)
            for names, machine, rows in groups.values()]


def folded(names: Sequence[str]) -> str:
    """Write host names with their runs of numbers as ranges: gpu[01:24],login."""

    def parts(name: str) -> tuple[str, str, int, int]:
        found = re.fullmatch(r"(.*?)(\d+)(\D*)", name)
        return (found[1], found[3], len(found[2]), int(found[2])) if found else (name, "", 0, 0)

    words = []
    ordered = sorted(parts(name) for name in names)
    # Neighbours have the same distance to their place in the list.
    for (head, tail, width, _), run in groupby(enumerate(ordered), lambda pair: (*pair[1][:3], pair[1][3] - pair[0])):
        numbers = [part[3] for _, part in run]
        if len(numbers) < RANGE:
            words += [f"{head}{number:0{width}}{tail}" if width else head for number in numbers]
        else:
            words.append(f"{head}[{numbers[0]:0{width}}:{numbers[-1]:0{width}}]{tail}")
    return ",".join(words)


def describe(facts: Mapping[str, Any]) -> Machine:
    """The machine in a few words, from what ``setup`` returns; empty where that was gathered without the distribution."""
    if "ansible_distribution" not in facts:
        return Machine()
    system = "{ansible_distribution} {ansible_distribution_version} ({ansible_distribution_release}), {ansible_architecture}"
    return Machine(system.format_map(facts), (facts.get("ansible_default_ipv4") or {}).get("address", "no address"))


def read_by_a_program(stdout_callback: str) -> bool:
    """Return whether lines of ours would spoil what this stdout callback prints."""
    return bool(SILENT.fullmatch(stdout_callback.rpartition(".")[2]))


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "forja_summary"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.machines: dict[str, Machine] = {}

    def v2_runner_on_ok(self, result: Any) -> None:
        # From ansible-core 2.19 on these have public names.
        answer = result.result if hasattr(result, "result") else result._result
        host = result.host if hasattr(result, "host") else result._host
        machine = describe(answer.get("ansible_facts") or {})
        if machine.system:
            self.machines[host.get_name()] = machine

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if not read_by_a_program(str(constants.DEFAULT_STDOUT_CALLBACK)):
            for line in lines(stats.custom, self.machines):
                self._display.display(line)
