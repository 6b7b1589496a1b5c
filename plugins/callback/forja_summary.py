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
  - The key C(host) describes the machine itself and stands beside the host's name.
  - Prints nothing when no role has anything to say.
requirements:
  - enabled in the configuration, C(callbacks_enabled = forja_summary)
"""

HOST_GAP = 3
ROLE_GAP = 2


def lines(custom: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The summary of ``stats.custom``, which maps host -> statistic -> value; hosts without ``forja`` are left out."""
    said = {host: stats["forja"] for host, stats in sorted(custom.items()) if isinstance(stats.get("forja"), Mapping)}
    rows = [row for host, sentences in said.items() for row in _rows(host, sentences)]
    left = max((len(host) for host, _, _ in rows), default=0) + HOST_GAP
    middle = max((len(role) for _, role, _ in rows), default=0) + ROLE_GAP
    return [f"{host:{left}}{role:{middle if role else 0}}{text}".rstrip() for host, role, text in rows]


def _rows(host: str, sentences: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """One row for the host, then one for each role in the order in which the roles ran."""
    # A sentence is one line, whatever a program's version output brought along.
    text = {str(role): " ".join(str(sentence).split()) for role, sentence in sentences.items()}
    return [(host, "", text.pop("host", "")), *(("", role, sentence) for role, sentence in text.items())]


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "forja_summary"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_stats(self, stats: Any) -> None:
        for line in lines(stats.custom):
            self._display.display(line)
