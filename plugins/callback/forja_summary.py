# SPDX-License-Identifier: Apache-2.0
"""After the recap: what each host is and what now runs on it, in the roles' own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: forja_summary
type: aggregate
short_description: Says after the recap what each host is and what runs on it
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Prints the custom statistic C(forja) of each host, a dictionary of short sentences that the roles fill with
    M(ansible.builtin.set_stats), each under its own name.
  - Beside the host's name stands what the machine is, from the facts that the play gathered.
  - Prints nothing when no role has anything to say.
requirements:
  - enabled in the configuration, C(callbacks_enabled = forja_summary)
"""

HOST_GAP = 3
ROLE_GAP = 2


def lines(custom: Mapping[str, Mapping[str, Any]], machines: Mapping[str, str]) -> list[str]:
    """The summary of ``stats.custom``, which maps host -> statistic -> value; hosts without ``forja`` are left out."""
    said = {host: stats["forja"] for host, stats in sorted(custom.items()) if isinstance(stats.get("forja"), Mapping)}
    rows = [row for host, sentences in said.items() for row in _rows(host, machines.get(host, ""), sentences)]
    left = max((len(host) for host, _, _ in rows), default=0) + HOST_GAP
    middle = max((len(role) for _, role, _ in rows), default=0) + ROLE_GAP
    return [f"{host:{left}}{role:{middle if role else 0}}{text}".rstrip() for host, role, text in rows]


def _rows(host: str, machine: str, sentences: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """One row for the host, then one for each role in the order in which the roles ran."""
    # A sentence is one line, whatever a program's version output brought along.
    return [(host, "", machine), *(("", str(role), " ".join(str(sentence).split())) for role, sentence in sentences.items())]


def describe(facts: Mapping[str, Any]) -> str:
    """The machine in a few words, from what ``setup`` returns; empty where that was gathered without the distribution."""
    if "ansible_distribution" not in facts:
        return ""
    system = "{ansible_distribution} {ansible_distribution_version} ({ansible_distribution_release}), {ansible_architecture}"
    address = (facts.get("ansible_default_ipv4") or {}).get("address", "no address")
    return f"{system.format_map(facts)}, {address}"


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "forja_summary"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.machines: dict[str, str] = {}

    def v2_runner_on_ok(self, result: Any) -> None:
        # From ansible-core 2.19 on these have public names.
        answer = result.result if hasattr(result, "result") else result._result
        host = result.host if hasattr(result, "host") else result._host
        machine = describe(answer.get("ansible_facts") or {})
        if machine:
            self.machines[host.get_name()] = machine

    def v2_playbook_on_stats(self, stats: Any) -> None:
        for line in lines(stats.custom, self.machines):
            self._display.display(line)
