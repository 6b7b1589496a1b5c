# SPDX-License-Identifier: Apache-2.0
"""Holds and the way back: what apt_packages does with packages that are held as a set, and with a snapshot, against a made-up apt."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.forja.apt import hold, snapshot
from plugins.module_utils.forja.apt.apt_get import complaints
from plugins.module_utils.forja.apt.packages import State, Together, apply, plan, transaction, wanted
from plugins.module_utils.forja.apt.snapshot import Snapshot
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.run import Result
from plugins.modules import apt_packages

SET = Together(["nvidia-*", "libcuda1"], ["nvidia-container-*"], True)
UNMET = """Some packages could not be installed. This may mean that you have
requested an impossible situation.
The following packages have unmet dependencies:
 libcuda1 : Depends: nvidia-alternative (= 535.261.03-1) but 535.309.01-1 is to be installed
E: Unable to correct problems, you have held broken packages.
"""


class Host:
    """dpkg's list as name -> status and version, and apt on it; a repository that has lost some versions."""

    def __init__(self, packages: dict[str, str], lost: tuple[str, ...] = ()) -> None:
        self.packages, self.lost, self.commands = {name: entry.split() for name, entry in packages.items()}, lost, list[list[str]]()

    def run(self, argv: list[str]) -> Result:
        self.commands.append(argv)
        if argv[0] == "dpkg-query":
            rows = [(name, *entry) for name, entry in self.packages.items()]
            if "db:Status-Abbrev} ${binary" in argv[2]:
                return Result(0, "".join(f"{status} {name} {version}\n" for name, status, version in rows), "")
            version = "Version" in argv[2]
            return Result(0, "".join(f"{row[0]} {row[1]} {row[2] if version else ''}\n" for row in rows), "")
        if argv[0] == "apt-mark":
            for name in argv[2:]:
                self.packages[name][0] = ("h" if argv[1] == "hold" else "i") + self.packages[name][0][1:]
        if argv[0] == "apt-cache":
            return Result(0, "".join(f"{name} | 2 | x Packages\n" for name in argv[2:]), "")
        if "install" not in argv:
            return Result(0, "", "")
        words = [word for word in argv[argv.index("install") + 1:] if not word.startswith("--")]
        if set(words) & set(self.lost):
            return Result(100, "", f"E: Version '1' for '{self.lost[0]}' was not found")
        if "--simulate" not in argv:
            for name in [word[:-1] for word in words if word.endswith("-")]:
                del self.packages[name]
            self.packages.update({name: ["ii", version] for name, _, version in (word.partition("=") for word in words) if version})
        return Result(0, "".join(f"Inst {word.partition('=')[0]}\n" for word in words if "=" in word), "")


@pytest.mark.parametrize(("installed", "held", "present", "absent", "mark", "changes_held"), [
    # A bare host: what comes is held.
    ({}, [], ["nvidia-smi", "nvidia-container-toolkit", "jq"], [], ["nvidia-smi"], False),
    # All as wanted: held, and it may not change.
    ({"nvidia-smi": "1"}, ["nvidia-smi"], ["nvidia-smi"], [], [], False),
    ({"nvidia-smi": "1"}, [], ["nvidia-smi"], [], ["nvidia-smi"], False),
    # Something beside it comes: the set stays.
    ({"nvidia-smi": "1"}, ["nvidia-smi"], ["nvidia-smi", "linux-modules-nvidia-595"], [], [], False),
    # It changes.
    ({"nvidia-smi": "1"}, ["nvidia-smi"], ["nvidia-smi=2"], [], [], True),
    ({"nvidia-smi": "1", "libcuda1": "1"}, ["nvidia-smi", "libcuda1"], [], ["nvidia-smi"], [], True),
])
def test_what_is_held(installed: dict[str, str], held: list[str], present: list[str], absent: list[str], mark: list[str],
                      changes_held: bool) -> None:
    state = State(installed, False, marks=hold.State(set(installed), set(held)))
    todo = plan(state, [wanted(item) for item in present], absent, together=SET)
    assert (list(todo.mark), todo.changes_held) == (mark, changes_held)
    assert [step for step in todo.steps if step.startswith("hold ")] == [f"hold {name}" for name in mark]


def test_a_set_that_may_go_is_freed() -> None:
    state = State({"nvidia-smi": "1"}, False, marks=hold.State({"nvidia-smi", "nvidia-modprobe"}, {"nvidia-smi", "nvidia-modprobe"}))
    assert plan(state, [], ["nvidia-smi"], together=SET._replace(held=False)).steps == ["remove nvidia-smi", "free nvidia-modprobe"]


def test_only_the_set_changes_although_it_is_held() -> None:
    host = Host({"nvidia-smi": "hi 1", "libcuda1": "hi 1", "docker.io": "hi 1"})
    state = State({"nvidia-smi": "1"}, False, marks=hold.gather(host.run))
    todo = plan(state, [wanted("nvidia-smi=2")], [], together=SET)
    apply(host.run, lambda _seconds: None, todo, [])
    command = next(argv for argv in host.commands if "install" in argv and "--simulate" not in argv)
    assert {"--ignore-hold", "--allow-change-held-packages"} <= set(command)
    assert host.packages["nvidia-smi"] == ["hi", "2"], "apt forgot the mark, and nobody set it again"

    def greedy(argv: list[str]) -> Result:
        return Result(0, "Inst nvidia-smi\nInst docker.io\n", "") if "--simulate" in argv else host.run(argv)

    with pytest.raises(ForjaError, match=r"apt would also change held packages \(docker.io\): to install nvidia-smi=2"):
        transaction(greedy, todo, {"nvidia-smi": "2"}, [])


def test_apt_says_which_dependency_it_cannot_meet() -> None:
    assert complaints(UNMET).splitlines() == [UNMET.splitlines()[3], UNMET.splitlines()[4]]
    assert complaints("nothing is marked\n") == "nothing is marked"


FORMER = {"kept": "ii 1", "older": "hi 1", "gone": "ii 1:amd64", "nvidia-half": "iF 1", "other-half": "iU 1", "config": "rc 1"}


@pytest.mark.parametrize(("now", "steps"), [
    (FORMER, ["remove nvidia-half"]),
    ({**FORMER, "older": "hi 2", "new": "ii 1"}, ["install older=1", "remove new", "remove nvidia-half"]),
    ({"kept": "ii 1", "older": "ii 1", "other-half": "iU 1"}, ["install gone=1:amd64", "hold older"]),
    ({"kept": "hi 1", "older": "hi 1", "gone": "ii 1:amd64", "other-half": "ii 1"}, ["free kept"]),
    ({"kept": "ii 1", "older": "iF 2", "gone": "ii 1:amd64", "broken": "iF 1"}, ["install older=1", "remove broken", "hold older"]),
])
def test_the_way_back(now: dict[str, str], steps: list[str]) -> None:
    former = snapshot.gather(Host(FORMER).run)
    assert "config" not in former.installed
    assert snapshot.plan(snapshot.gather(Host(now).run), former, ["nvidia-*"]).steps == steps


packages = st.dictionaries(st.sampled_from(["a1", "b1", "c1", "nvidia-x"]), st.sampled_from(["ii 1", "hi 1", "ii 2", "iF 1", "rc 1"]))


@given(packages, packages)
def test_after_it_nothing_is_left_to_do(before: dict[str, str], now: dict[str, str]) -> None:
    former, host = snapshot.gather(Host(before).run), Host(now)
    snapshot.apply(host.run, snapshot.plan(snapshot.gather(host.run), former, ["nvidia-*"]), former, ["nvidia-*"])
    after = snapshot.gather(host.run)
    assert snapshot.plan(after, former, ["nvidia-*"]).steps == []
    assert {name: {**after.installed, **after.partial}[name] for name in former.installed} == former.installed
    assert "nvidia-x" in former.installed or "nvidia-x" not in {**after.installed, **after.partial}


def play(monkeypatch: pytest.MonkeyPatch, host: Host, **arguments: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}

    def leave(_module: Any, **result: Any) -> None:
        told.update(result)
        raise SystemExit

    monkeypatch.setattr(AnsibleModule, "run_command", lambda _self, argv, **_: host.run(argv))
    monkeypatch.setattr(AnsibleModule, "exit_json", leave)
    monkeypatch.setattr(AnsibleModule, "fail_json", lambda self, msg: leave(self, failed=True, msg=msg))
    monkeypatch.setattr(apt_packages, "UPDATES", "/nowhere")
    with patch_module_args(arguments), pytest.raises(SystemExit):
        apt_packages.main()
    return told


def test_module_goes_back_to_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host({"nvidia-smi": "hi 1"})
    taken = play(monkeypatch, host, state="snapshot")
    assert (taken["changed"], taken["snapshot"]) == (False, {"installed": {"nvidia-smi": "1"}, "partial": {}, "held": ["nvidia-smi"]})
    host.packages = {"nvidia-smi": ["ii", "2"], "new": ["iF", "1"]}
    predicted = play(monkeypatch, host, state="restored", snapshot=taken["snapshot"], _ansible_check_mode=True)
    assert host.packages["nvidia-smi"] == ["ii", "2"]
    done = play(monkeypatch, host, state="restored", snapshot=taken["snapshot"])
    assert done["steps"] == predicted["steps"] == ["install nvidia-smi=1", "remove new", "hold nvidia-smi"]
    assert host.packages == {"nvidia-smi": ["hi", "1"]}
    assert not play(monkeypatch, host, state="restored", snapshot=taken["snapshot"])["changed"]


def test_module_says_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host({"nvidia-smi": "ii 2"}, lost=("nvidia-smi=1",))
    former = dict(Snapshot({"nvidia-smi": "1"}, {}, [])._asdict())
    told = play(monkeypatch, host, state="restored", snapshot=former)
    assert "apt cannot put back what was there: E: Version '1' for 'nvidia-smi=1' was not found" in told["msg"]
    assert "The snapshot is not one of apt_packages" in play(monkeypatch, host, state="restored", snapshot={"x": 1})["msg"]


def test_module_predicts_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    wish = {"present": ["nvidia-smi=2"], "hold": {"packages": ["nvidia-*"]}}
    for before in ("hi 1", "ii 2"):
        host = Host({"nvidia-smi": before})
        predicted = play(monkeypatch, host, **wish, _ansible_check_mode=True)
        assert host.packages["nvidia-smi"] == before.split()
        assert play(monkeypatch, host, **wish)["steps"] == predicted["steps"] != []
        assert host.packages["nvidia-smi"] == ["hi", "2"]
        assert not play(monkeypatch, host, **wish)["changed"]


def test_module_removes_what_cannot_be_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host({"nvidia-smi": "hi 1", "nvidia-dkms": "iF 1"})
    taken = play(monkeypatch, host, state="purged", absent=["nvidia-smi", "nvidia-dkms"], _ansible_check_mode=True)
    assert taken["removed"] == ["nvidia-smi", "nvidia-dkms"]
    assert not any("--fix-broken" in argv for argv in host.commands)
