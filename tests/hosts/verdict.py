# SPDX-License-Identifier: Apache-2.0
"""Turn the failures of host tests into one line each: host, role, what is, what should be, what to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from tests.hosts.wanted import hosts_of

LONGEST = 400
UNREACHABLE = "Not reachable: "
RAISED = re.compile(r"^([\w.]+\.)?(AssertionError|Failed): ")
NODE = re.compile(r"(?:.*/)?test_(?P<role>\w+)\.py::test_(?P<test>\w+)\[ansible://(?P<case>.+)\]$")


class Subject(NamedTuple):
    host: str
    role: str
    test: str


def subject(nodeid: str, hosts: Sequence[str]) -> Subject | None:
    """What a test looks at; None for one that looks at no host."""
    found = NODE.match(nodeid)
    if found is None:
        return None
    # The names of hosts and of cases may have hyphens, and a hyphen is between them.
    host = max((name for name in hosts if f"{found['case']}-".startswith(f"{name}-")), key=len, default=found["case"])
    case = found["case"][len(host) + 1 :]
    return Subject(host, found["role"], found["test"].replace("_", " ") + (f" ({case})" if case else ""))


def compare(operator: str, left: Any, right: Any) -> str:
    """Say in one line what was found and what was expected."""
    if operator == "==":
        return f"found {left!r}, expected {right!r}"
    if operator == "is":
        return f"found {left}, expected {right}"
    if operator == "in":
        return f"{left!r} is missing in {right!r}"
    if operator == "not in":
        return f"{left!r} must not be in {right!r}"
    if operator in ("<=", ">=") and isinstance(left, set) and isinstance(right, set):
        return f"missing: {sorted(map(str, left - right if operator == '<=' else right - left))}"
    return f"found {left!r}, expected {operator} {right!r}"


def sentence(message: str) -> str:
    """Fold what pytest says of a failure into one line."""
    text = RAISED.sub("", message)
    command = re.match(r"Unexpected exit code (\d+) for CommandResult\(command=b?(['\"])(.*?)\2, .*?stderr=b?(['\"])(.*?)\4\)", text, re.S)
    if command:
        return _cut(f"`{command[3]}` ended with {command[1]}: {command[5]}")
    first, _, rest = text.partition("\n")
    if re.fullmatch(r"assert (not )?\S+( is (not )?\w+)?", first) and (where := re.search(r"where (\S+) = (.*)", rest)):
        return _cut(f"{where[2].strip()} is {where[1]}")
    said, _, compared = text.partition("\nassert ")
    if compared and not said.startswith("assert "):
        detail = compared.splitlines()[0]
        return _cut(f"{said} ({detail})" if "expected" in detail or "missing" in detail else said)
    return _cut(first.removeprefix("assert "))


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 4]} ..."


class Verdicts:
    """Prints a line for each failure as it comes and one for each role of a host when all of it was looked at."""

    def __init__(self, config: pytest.Config) -> None:
        self.inventory = config.getoption("ansible_inventory")
        self.hosts = hosts_of(self.inventory)
        self.left: Counter[tuple[str, str]] = Counter()
        self.passed: Counter[tuple[str, str]] = Counter()
        self.failed: Counter[tuple[str, str]] = Counter()
        self.seen: set[str] = set()
        self.plugins = config.pluginmanager

    def subject(self, nodeid: str) -> Subject | None:
        return subject(nodeid, self.hosts)

    def expect(self, nodeids: list[str]) -> None:
        self.left = Counter((one.host, one.role) for one in map(self.subject, nodeids) if one)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self.expect(ids)  # every worker has collected the same

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.expect([item.nodeid for item in session.items])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        one = self.subject(report.nodeid)
        if one is None:
            return
        key = (one.host, one.role)
        if report.failed:
            self.failed[key] += 1
            line = self.line(one, report)
            if line not in self.seen:
                self.seen.add(line)
                self.print(line, red=True)
        elif report.when == "call":
            self.passed[key] += report.passed
        if report.when == "teardown":
            self.left[key] -= 1
            if not self.left[key] and (self.passed[key] or self.failed[key]):
                self.close(one)

    def print(self, text: str, *, red: bool) -> None:
        reporter: Any = self.plugins.get_plugin("terminalreporter")
        reporter.ensure_newline()
        reporter.write_line(text, red=red)

    def line(self, one: Subject, report: pytest.TestReport) -> str:
        message = RAISED.sub("", getattr(getattr(report.longrepr, "reprcrash", None), "message", "") or str(report.longrepr))
        if message.startswith(UNREACHABLE):
            return f"{one.host}  {_cut(message)}"
        remedy = dict(report.user_properties).get("remedy") or (
            f"ansible-playbook --inventory {self.inventory} site.yml --limit {one.host} --tags {one.role}"
        )
        return f"{one.host}  {one.role:<14}{one.test}: {sentence(message)}. To do: {remedy}"

    def close(self, one: Subject) -> None:
        failed, passed = self.failed[one.host, one.role], self.passed[one.host, one.role]
        result = f"{failed} of {passed + failed} FAILED" if failed else f"ok, {passed} checks"
        self.print(f"{one.host}  {one.role:<14}{result}", red=bool(failed))

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """No dots: the lines say it."""
        return (report.outcome, "", "") if report.when == "call" or report.outcome != "passed" else ("", "", "")
