# SPDX-License-Identifier: Apache-2.0
"""The module group_members, against made-up accounts and a gpasswd that knows them."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.forja.host.groups import Group, plan
from plugins.module_utils.forja.host.run import Result
from plugins.modules import group_members


class ExitError(Exception):
    pass


class Host:
    """Users with their primary groups, groups with their members."""

    def __init__(self, users: dict[str, int], groups: dict[str, list[str]]) -> None:
        self.users, self.groups, self.commands = users, groups, list[list[str]]()

    def user(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(pw_gid=self.users[name])

    def group(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(gr_gid=7, gr_mem=self.groups[name])

    def run(self, argv: list[str]) -> Result:
        self.commands.append(argv)
        self.groups[argv[3]].append(argv[2])
        return Result(0, "", "")


Play = Callable[..., dict[str, Any]]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host({"ada": 1, "grace": 2, "dock": 7}, {"docker": ["ada", "linus"]})
    monkeypatch.setattr(pwd, "getpwnam", host.user)
    monkeypatch.setattr(grp, "getgrnam", host.group)
    monkeypatch.setattr(group_members, "module_run", lambda _module: host.run)
    return host


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    result: dict[str, Any] = {}

    def leave(_module: Any, **values: Any) -> None:
        result.clear()
        result.update(values)
        raise ExitError

    module = "plugins.modules.group_members.AnsibleModule"
    monkeypatch.setattr(f"{module}.exit_json", leave)
    monkeypatch.setattr(f"{module}.fail_json", lambda self, msg: leave(self, failed=True, msg=msg))

    def run(users: list[str], check: bool = False) -> dict[str, Any]:
        with patch_module_args({"group": "docker", "users": users, "_ansible_check_mode": check}), pytest.raises(ExitError):
            group_members.main()
        return dict(result)

    return run


def test_users_are_added_once_and_others_stay(host: Host, play: Play) -> None:
    predicted = play(["ada", "grace", "dock"], check=True)
    assert host.commands == []
    assert play(["ada", "grace", "dock"]) == predicted
    assert predicted["added"] == ["grace"]
    assert host.groups["docker"] == ["ada", "linus", "grace"]
    assert not play(["ada", "grace", "dock"])["changed"]


def test_unknown_users_are_refused_before_anything_changes(host: Host, play: Play) -> None:
    for check in (True, False):
        assert "No user on this host is called nobody-here or me" in play(["grace", "nobody-here", "me"], check)["msg"]
    assert host.commands == []


def test_a_group_that_a_package_brings_is_predicted_but_not_invented(host: Host, play: Play) -> None:
    del host.groups["docker"]
    assert play(["ada"], check=True)["added"] == ["ada"]
    assert "no group docker" in play(["ada"])["msg"]


@given(st.sets(st.sampled_from("abc")) | st.none(), st.lists(st.sampled_from("abcd")))
def test_plan_adds_each_missing_user_once(members: set[str] | None, users: list[str]) -> None:
    added = plan(Group(members, []), users)
    assert len(added) == len(set(added))
    assert set(added) | (members or set()) >= set(users)
    assert not set(added) & (members or set())
