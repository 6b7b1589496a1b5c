# SPDX-License-Identifier: Apache-2.0
"""The module apt_packages: plans as tables, transactions against a made-up apt."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.forja.apt.packages import Plan, State, Wanted, apply, gather, offered, plan, unknown, wanted
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.run import Result
from plugins.modules import apt_packages


class Host:
    """apt and dpkg of a host: what is installed, what the repositories hold, what conflicts and what came as a dependency."""

    def __init__(self, installed: dict[str, str], repository: dict[str, list[str]], conflicts: dict[str, str] | None = None) -> None:
        self.installed, self.lists, self.repository = dict(installed), dict(repository), dict(repository)
        self.conflicts = conflicts or {}
        self.orphans_of: dict[str, list[str]] = {}
        self.idle: list[str] = []
        self.gone_from_the_mirror: list[str] = []
        self.half: list[str] = []
        self.stuck: list[str] = []  # of these those that cannot be configured
        self.commands: list[str] = []

    def run(self, argv: list[str]) -> Result:
        line = " ".join(argv)
        self.commands.append(line)
        if argv[0] == "dpkg-query":
            names = argv[3:]
            known = [f"{name} ii  {self.installed[name]}\n" for name in names if name in self.installed]
            return Result(1, "".join(known + [f"{name} iU  1\n" for name in self.half]) + "left rc  1\n", "no packages found")
        if argv[0] == "dpkg":
            self.half = [name for name in self.half if name in self.stuck]
            return Result(1 if self.half else 0, "", "")
        if argv[0] == "apt-cache":
            rows = [(name, version) for name in argv[2:] for version in self.lists.get(name, [])]
            lines = [f"  {name} | {version} | http://x stable/main amd64 Packages\n" for name, version in rows]
            return Result(0, "".join([*lines, "  docker-ce | 9 | http://x stable/main Sources\n"]), "")
        if argv[-1] == "update":
            self.lists, self.gone_from_the_mirror = dict(self.repository), []
            return Result(0, "", "")
        simulate = "--simulate" in argv
        if argv[-1] == "autoremove":
            return Result(0, "".join(f"Remv {name} [1]\n" for name in self.idle), "")
        words = argv[argv.index("install") + 1:] if "install" in argv else []
        words = [word for word in words if not word.startswith("--")]
        new = dict(word.split("=", 1) for word in words if "=" in word)
        gone = {word[:-1] for word in words if word.endswith("-")}
        gone |= {self.conflicts[name] for name in new if self.conflicts.get(name) in self.installed}
        if "--auto-remove" in argv:
            gone |= {orphan for name in gone for orphan in self.orphans_of.get(name, [])} | set(self.idle)
        out = "".join(f"Remv {name} [1]\n" for name in sorted(gone)) + "".join(f"Inst {name}\n" for name in new)
        if not simulate:
            if set(new) & set(self.gone_from_the_mirror):
                return Result(100, "", "E: Failed to fetch http://x/y.deb  404  Not Found")
            self.half = [name for name in self.half if name not in gone]
            if set(self.half) & set(self.stuck):  # whatever apt is asked for, it configures them first
                return Result(100, "", f"E: {self.half[0]} cannot be configured")
            for name in gone:
                self.installed.pop(name, None)
            self.installed.update(new)
        return Result(0, out, "")

    def play(self, present: list[str], absent: list[str]) -> list[str]:
        items = [wanted(item) for item in present]
        names = [item.name for item in items] + absent
        todo = plan(gather(self.run, names, []), items, absent)
        apply(self.run, lambda _seconds: None, todo, absent)
        assert plan(gather(self.run, names, []), items, absent).steps == []
        return todo.steps


@pytest.mark.parametrize(("installed", "present", "absent", "steps"), [
    ({}, ["docker.io"], [], ["install docker.io"]),
    ({"docker.io": "26"}, ["docker.io"], ["docker-ce"], []),
    ({"docker.io": "26"}, ["docker-ce"], ["docker.io"], ["install docker-ce", "remove docker.io"]),
    ({"docker-ce": "5:29.6.1-1"}, ["docker-ce=5:29.6*"], [], []),
    ({"docker-ce": "5:29.6.1-1"}, ["docker-ce=5:28*"], [], ["install docker-ce=5:28*"]),
])
def test_plan(installed: dict[str, str], present: list[str], absent: list[str], steps: list[str]) -> None:
    assert plan(State(installed, False), [wanted(item) for item in present], absent).steps == steps


@pytest.mark.parametrize("item", ["", "-y", "Docker", "docker io", "docker-", "--purge=1"])
def test_a_name_is_no_option(item: str) -> None:
    with pytest.raises(ForjaError, match="is no name of a package"):
        wanted(item)


@pytest.mark.parametrize(("updates", "status", "interrupted"), [
    ([], "a ii  1", False), ([], "a hi  1", False), ([], "a rc  1", False), ([], "a un", False),
    (["0001"], "a ii  1", True), (["tmp.i"], "a ii  1", False), ([], "a iU  1", True), ([], "a iF  1", True), ([], "a iHR 1", True),
])
def test_what_dpkg_was_cut_off_from_is_seen(updates: list[str], status: str, interrupted: bool) -> None:
    assert gather(lambda _argv: Result(0, status + "\n", ""), ["a"], updates).interrupted == interrupted


def test_only_what_is_wholly_there_is_installed() -> None:
    shown = "a ii  1\nb hi  2\nc rc  3\nd iU  4\ne un  \n"
    assert gather(lambda _argv: Result(0, shown, ""), [], []).installed == {"a": "1", "b": "2"}


def test_the_newest_version_that_matches_is_offered() -> None:
    host = Host({}, {"docker-ce": ["5:29.6.1-1", "5:29.6.0-1", "5:28.1-1"]})
    assert offered(host.run, [Wanted("docker-ce", "")]) == {"docker-ce": "5:29.6.1-1"}
    assert offered(host.run, [Wanted("docker-ce", "5:28*")]) == {"docker-ce": "5:28.1-1"}
    assert offered(host.run, [Wanted("docker-ce", "5:99*")]) == {}
    assert offered(host.run, []) == {}


def test_the_other_source_takes_over_in_one_transaction() -> None:
    before = {"docker.io": "26", "containerd": "1", "runc": "1", "tini": "1", "old": "1"}
    host = Host(before, {"docker-ce": ["5:29"], "docker-ce-cli": ["5:29"]})
    host.orphans_of, host.idle = {"docker.io": ["tini"]}, ["old"]
    assert host.play(["docker-ce", "docker-ce-cli"], ["docker.io", "containerd", "runc"])
    assert host.installed == {"docker-ce": "5:29", "docker-ce-cli": "5:29", "old": "1"}
    real = [line for line in host.commands if " install " in line and "--simulate" not in line]
    assert len(real) == 1
    assert "--allow-downgrades" not in real[0]
    assert not any(line.endswith("update") for line in host.commands)


def test_a_pin_goes_back_to_an_older_version() -> None:
    host = Host({"docker-ce": "5:29"}, {"docker-ce": ["5:29", "5:28.1", "5:28.0"]})
    assert host.play(["docker-ce=5:28*"], []) == ["install docker-ce=5:28*"]
    assert host.installed == {"docker-ce": "5:28.1"}


def test_nothing_goes_that_was_not_named() -> None:
    host = Host({"podman-docker": "4", "x": "1"}, {"docker.io": ["26"]}, conflicts={"docker.io": "podman-docker"})
    with pytest.raises(ForjaError, match="apt would also remove podman-docker, which nobody asked for: to install docker.io"):
        host.play(["docker.io"], [])
    assert host.installed == {"podman-docker": "4", "x": "1"}


def test_lists_are_refreshed_when_a_package_is_unknown() -> None:
    host = Host({}, {"docker.io": ["26"]})
    host.lists = {}
    host.play(["docker.io"], [])
    assert host.installed == {"docker.io": "26"}
    with pytest.raises(ForjaError, match="apt knows no nonsense and no docker-ce=5:1"):
        host.play(["nonsense", "docker-ce=5:1"], [])


def test_lists_are_refreshed_when_the_mirror_moved_on() -> None:
    host = Host({}, {"docker.io": ["26.1"]})
    host.lists, host.gone_from_the_mirror = {"docker.io": ["26.0"]}, ["docker.io"]
    host.play(["docker.io"], [])
    assert host.installed == {"docker.io": "26.1"}


def test_a_mirror_that_stays_broken_is_told() -> None:
    def broken(argv: list[str]) -> Result:
        if argv[0] == "apt-cache":
            return Result(0, "docker.io | 26 | x Packages\n", "")
        refused = Result(100, "", "E: Failed to fetch x  Connection refused")
        return Result(0, "", "") if argv[-1] == "update" or "--simulate" in argv else refused

    with pytest.raises(ForjaError, match="apt failed: E: Failed to fetch x  Connection refused"):
        apply(broken, lambda _seconds: None, Plan([Wanted("docker.io", "")], [], False), [])


def test_what_was_cut_off_is_completed_first() -> None:
    host = Host({}, {"docker.io": ["26"]})
    host.half = ["docker.io"]
    assert host.play(["docker.io"], [])[0] == "complete what dpkg was interrupted in"
    done = [line for line in host.commands if line.startswith("dpkg --configure") or "--fix-broken" in line]
    assert done[0] == "dpkg --configure --pending"
    assert host.installed == {"docker.io": "26"}


def test_what_cannot_be_configured_can_be_removed() -> None:
    """As the package of a driver whose module does not fit the kernel."""
    host = Host({"nvidia-smi": "1", "precious": "1"}, {})
    host.half = host.stuck = ["nvidia-dkms"]
    assert host.play([], ["nvidia-dkms", "nvidia-smi"]) == [
        "complete what dpkg was interrupted in", "remove nvidia-dkms", "remove nvidia-smi"]
    assert (host.installed, host.half) == ({"precious": "1"}, [])


def test_a_repair_that_would_remove_something_is_refused() -> None:
    def run(argv: list[str]) -> Result:
        return Result(0, "Remv precious [1]\n", "") if "--simulate" in argv else Result(0, "", "")

    with pytest.raises(ForjaError, match="cannot be completed: apt would remove precious"):
        apply(run, lambda _seconds: None, Plan([], [], True), [])


def test_check_mode_asks_without_changing() -> None:
    host = Host({"podman-docker": "4"}, {"docker.io": ["26"]}, conflicts={"docker.io": "podman-docker"})
    with pytest.raises(ForjaError, match="podman-docker"):
        unknown(host.run, Plan([Wanted("docker.io", "")], [], False), [])
    assert "does not know docker-ce yet" in str(unknown(host.run, Plan([Wanted("docker-ce", "")], [], False), []))
    assert unknown(host.run, Plan([], [], True), []) is None
    assert host.installed == {"podman-docker": "4"}


names = st.sampled_from(["a1", "b1", "c1", "d1"])


@given(st.dictionaries(names, st.sampled_from(["1", "2"])), st.dictionaries(names, st.sampled_from(["", "=1", "=2", "=*"])), st.sets(names))
def test_nothing_is_left_to_do_after_a_plan(installed: dict[str, str], present: dict[str, str], absent: set[str]) -> None:
    host = Host(installed, dict.fromkeys(["a1", "b1", "c1", "d1"], ["2", "1"]))
    gone = sorted(absent - set(present))
    host.play([name + version for name, version in present.items()], gone)
    assert not set(gone) & set(host.installed)
    assert all(fnmatch.fnmatchcase(host.installed[name], version[1:] or "*") for name, version in present.items())
    assert {name: host.installed[name] for name in set(installed) - absent - set(present)} == {
        name: installed[name] for name in set(installed) - absent - set(present)
    }


# The module

class ExitError(Exception):
    pass


def test_module_predicts_does_and_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host({"docker.io": "26"}, {"docker-ce": ["5:29"]})
    told: dict[str, Any] = {}

    def leave(_module: Any, **result: Any) -> None:
        told.clear()
        told.update(result)
        raise ExitError

    def play(**arguments: Any) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(ExitError):
            apt_packages.main()
        return dict(told)

    monkeypatch.setattr(apt_packages, "UPDATES", "/nowhere")
    monkeypatch.setattr("plugins.modules.apt_packages.AnsibleModule.run_command", lambda _self, argv, **_: host.run(argv))
    monkeypatch.setattr("plugins.modules.apt_packages.AnsibleModule.exit_json", leave)
    monkeypatch.setattr("plugins.modules.apt_packages.AnsibleModule.fail_json", lambda self, msg: leave(self, failed=True, msg=msg))

    wish = {"present": ["docker-ce=5:*"], "absent": ["docker.io"]}
    held = play(**wish, hold_removals=True)
    assert (held["changed"], held["held"], held["steps"]) == (False, ["docker.io"], [])
    predicted = play(**wish, _ansible_check_mode=True)
    assert host.installed == {"docker.io": "26"}
    done = play(**wish)
    assert host.installed == {"docker-ce": "5:29"}
    assert predicted["steps"] == done["steps"] == ["install docker-ce=5:*", "remove docker.io"]
    assert (done["installed"], done["removed"], done["versions"]) == (["docker-ce"], ["docker.io"], {"docker-ce": "5:29"})
    assert done["diff"] == {"before": "docker.io 26\n", "after": "docker-ce 5:29\n"}
    assert not play(**wish, hold_removals=True)["changed"]
    assert "docker-ce stands in the way" in play(refuse=["docker-ce"])["msg"]
