# SPDX-License-Identifier: Apache-2.0
"""The module systemd_dropin: what overrides a drop-in, what systemd says of it, the plan, doing it, and taking it back."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.run import Result, Run
from plugins.module_utils.forja.systemd import dropin
from plugins.module_utils.forja.systemd import paths as unit_paths
from plugins.module_utils.forja.systemd import pending as dropin_debt
from plugins.module_utils.forja.systemd import verify as unit_verify
from plugins.module_utils.forja.systemd.dropin import Found, Step, Want
from plugins.module_utils.forja.systemd.dropin_apply import Host, apply
from plugins.module_utils.forja.systemd.manager import Clock, Manager, older_than, parse_show, property_of, trouble
from plugins.module_utils.forja.systemd.overrides import overridden, warnings
from plugins.module_utils.forja.systemd.paths import Place, drop_ins, fragment
from plugins.module_utils.forja.systemd.unit_file import Entry, parse
from plugins.modules import systemd_dropin

UNIT = "demo.service"
NO_BOOLEANS: frozenset[tuple[str, str]] = frozenset()


class FakeSystemd:
    """systemctl, journalctl and systemd-analyze above a folder. A unit fails if a drop-in of it says `Nice=broken`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[str] = []
        self.state = "active"
        self.installed = True
        self.loaded = self.settings()

    def settings(self) -> str:
        folder = self.root / "etc/systemd/system" / (UNIT + ".d")
        return "".join(file.read_text(errors="replace") for file in sorted(folder.glob("*.conf")) if file.is_file())

    def __call__(self, argv: list[str]) -> Result:
        assert all(isinstance(word, str) for word in argv)
        self.calls.append(" ".join(argv))
        if argv[0] == "env":
            return self.analyze(argv)
        if argv[0] == "journalctl":
            return Result(0, "demo: Nice is broken\n", "")
        verb = next(word for word in argv[1:] if not word.startswith("-"))
        verbs = {"show": self.show, "daemon-reload": self.reload, "reset-failed": self.reset, "try-restart": self.restart,
                 "restart": self.restart}
        return verbs[verb]()

    def show(self) -> Result:
        nice = re.findall("Nice=(.*)", self.loaded) or ["0"]
        properties = {"Id": UNIT, "LoadState": "loaded" if self.installed else "not-found", "Type": "simple", "Nice": nice[-1],
                      "ActiveState": self.state if self.installed else "inactive", "ConditionResult": "yes",
                      "NeedDaemonReload": "no" if self.loaded == self.settings() else "yes",
                      # Started at the end of days: only NeedDaemonReload makes it look old.
                      "InactiveExitTimestamp": "Sat 2200-01-01 00:00:00 UTC", "InactiveExitTimestampMonotonic": "9" * 15}
        return Result(0, "".join(f"{name}={value}\n" for name, value in properties.items()), "")

    def reset(self) -> Result:
        self.state = "inactive" if self.state == "failed" else self.state
        return Result(0, "", "")

    def reload(self) -> Result:
        self.loaded = self.settings()
        return Result(0, "", "")

    def restart(self) -> Result:
        if self.state == "failed":
            return Result(1, "", "Start request repeated too quickly.")
        self.state = "failed" if "Nice=broken" in self.loaded else "active"
        return Result(0, "", "")

    def analyze(self, argv: list[str]) -> Result:
        [draft] = Path(argv[-1]).parent.glob("*.d/*forja.conf")
        said = [f"{draft}:{number}: Unknown key '{line}' in section [Service], ignoring."
                for number, line in enumerate(draft.read_text().splitlines(), 1) if line.startswith(("Nope", "ForjaCanary"))]
        return Result(0, "", "\n".join(said))

    def called(self, verb: str) -> int:
        return sum(verb in call.split() for call in self.calls)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return place_under(tmp_path)


def place_under(root: Path, scope: str = "system") -> Place:
    # The files belong to whoever runs the tests.
    return unit_paths.place(scope, str(root), os.getuid(), os.getgid(), "/home/me")._replace(uid=os.getuid(), gid=os.getgid())


@pytest.fixture
def systemd(tmp_path: Path) -> FakeSystemd:
    write(tmp_path, "usr/lib/systemd/system/demo.service", "[Service]\nExecStart=/bin/demo\n")
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    return FakeSystemd(tmp_path)


def write(root: Path, path: str, text: str = "[Service]\nNice=1\n") -> str:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return str(file)


def host_with(where: Place, run: Run) -> Host:
    return Host(where, Manager(run, False, lambda _: None), os.rename, os.chmod)


def want(where: Place, settings: dict[str, Any] | None = None, **options: Any) -> Want:
    defaults: dict[str, Any] = {"unit": UNIT, "name": "forja", "order": None, "environment": {}, "present": True, "reload": True,
                                "restart": False}
    return dropin.want(where, settings=settings or {}, **{**defaults, **options})


def converge(host: Host, goal: Want, check: bool = False) -> list[str]:
    found = dropin.gather(host.place, host.manager, goal)
    steps = dropin.plan(found, goal, host.place)
    if steps and not check:
        apply(host, goal, found, steps)
    return [step.action for step in steps]


def tree(root: Path) -> dict[str, str]:
    files = sorted((root / "etc").rglob("*"))
    return {str(path.relative_to(root)): path.read_bytes().decode("latin-1") if path.is_file() else "" for path in files}


# --- names and folders -------------------------------------------------------------------------------------------------


UNITS = ["a.service", "foo@bar.service", "foo@.service", "foo@b@c.service", "-.slice", r"dev-a\x2db.swap", "a:b_c.timer"]
NO_UNITS = ["", "ollama", "ollama.conf", ".service", "a/b.service", "../a.service", "@a.service", "a b.service", "a.service\n", "ä.service",
            "a" * 260 + ".service"]


@pytest.mark.parametrize("unit", UNITS)
def test_units(unit: str, place: Place) -> None:
    assert want(place, unit=unit).path.endswith(f"/etc/systemd/system/{unit}.d/forja.conf")


@pytest.mark.parametrize("unit", NO_UNITS)
def test_what_is_no_unit(unit: str, place: Place) -> None:
    with pytest.raises(ForjaError, match="not the name of a unit"):
        want(place, unit=unit)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a/b"}, "name: 'a/b'"),
        ({"name": "forja.conf"}, "without the ending"),
        ({"name": ".forja"}, "name: "),
        ({"name": ""}, "name: "),
        ({"order": 100}, "between 0 and 99"),
        ({"order": -1}, "between 0 and 99"),
        ({"restart": True, "reload": False}, "needs reload"),
        ({"unit": "a.timer", "environment": {"A": "1"}}, "starts no program"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], message: str, place: Place) -> None:
    with pytest.raises(ForjaError, match=message):
        want(place, **options)


def test_order_and_sections(place: Place) -> None:
    assert want(place, order=5).path.endswith("/05-forja.conf")
    assert want(place, unit="a.socket", environment={"A": "1"}).entries == [Entry("Socket", "Environment", '"A=1"')]


@pytest.mark.parametrize(
    ("scope", "config", "runtime"),
    [("system", "/etc/systemd/system", "/run"), ("global", "/etc/systemd/user", "/run"),
     ("user", "/home/me/.config/systemd/user", "/run/user/1000")],
)
def test_places(scope: str, config: str, runtime: str) -> None:
    where = unit_paths.place(scope, "/", 1000, 1000, "/home/me")
    assert (where.config, where.runtime) == (config, runtime)
    assert (where.uid, where.gid) == ((1000, 1000) if scope == "user" else (0, 0))
    assert config in where.search
    assert len(set(where.search)) == len(where.search)


# The order of these folders was read from `systemctl show -p DropInPaths` of systemd 257.
def test_the_closest_file_of_a_name_wins(tmp_path: Path, place: Place) -> None:
    order = ["etc/systemd/system/foo-bar@x.service.d", "etc/systemd/system/foo-bar@.service.d", "etc/systemd/system/foo-.service.d",
             "etc/systemd/system/foo-@x.service.d", "etc/systemd/system/foo-@.service.d", "usr/lib/systemd/system/foo-bar@x.service.d",
             "etc/systemd/system/service.d", "usr/lib/systemd/system/service.d"]
    files = [write(tmp_path, folder + "/same.conf") for folder in order]
    for file in files:
        assert [path for path in drop_ins(place, "foo-bar@x.service", "") if path.endswith("/same.conf")] == [file]
        os.unlink(file)


def test_drop_ins_sort_by_name_wherever_they_lie(tmp_path: Path, place: Place) -> None:
    last = write(tmp_path, "usr/lib/systemd/system/service.d/zz.conf")
    first = write(tmp_path, "run/systemd/system/demo.service.d/10-a.conf")
    write(tmp_path, "etc/systemd/system/demo.service.d/.hidden.conf")
    write(tmp_path, "etc/systemd/system/demo.service.d/backup.conf~")
    ours = want(place).path
    assert drop_ins(place, UNIT, ours) == [first, ours, last]


def test_aliases_share_their_drop_ins(tmp_path: Path, place: Place) -> None:
    write(tmp_path, "usr/lib/systemd/system/ssh.service")
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/sshd.service").symlink_to("/usr/lib/systemd/system/ssh.service")
    for unit, other in (("ssh.service", "sshd.service"), ("sshd.service", "ssh.service")):
        assert write(tmp_path, f"etc/systemd/system/{other}.d/{unit}.conf") in drop_ins(place, unit, "")


def test_the_fragment_of_an_instance_is_its_templates(tmp_path: Path, place: Place) -> None:
    template = write(tmp_path, "usr/lib/systemd/system/foo@.service")
    assert fragment(place, "foo@x.service") == fragment(place, "foo@.service") == template
    assert fragment(place, "bar@x.service") is None


# --- what overrides us -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "later", "keys"),
    [
        ("[Service]\nNice=1\n", ["[Service]\nNice=2\n"], ["Nice="]),
        ("[Service]\nNice=1\n", ["[Service]\nNice=1\n"], []),
        ("[Service]\nNice=1\n", ["[Service]\nNice=\n"], ["Nice="]),
        ("[Service]\nNice=1\n", ["[Service]\nNice=2\n", "[Service]\nNice=1\n"], []),
        ("[Service]\nNice=1\n", ["[Unit]\nNice=2\n"], []),
        ("[Service]\nNice=1\n", ["[Service]\nUser=x\n"], []),
        ("[Service]\nExecStartPre=/a\n", ["[Service]\nExecStartPre=/b\n"], []),
        ("[Service]\nExecStartPre=/a\n", ["[Service]\nExecStartPre=\nExecStartPre=/b\n"], ["ExecStartPre="]),
        ("[Service]\nExecStart=\n", ["[Service]\nExecStart=\n"], []),
        ("[Unit]\nAfter=a\n", ["[Unit]\nAfter=b\n"], []),
        ("[Unit]\nAfter=a\n", ["[Unit]\nAfter=\n"], []),
        ("[Unit]\nConditionHost=a\n", ["[Unit]\nConditionUser=\n"], ["ConditionHost="]),
        ("[Service]\nEnvironment=A=1 B=2\n", ["[Service]\nEnvironment=C=3\n"], []),
        ("[Service]\nEnvironment=A=1 B=2\n", ["[Service]\nEnvironment=B=3\n"], ["Environment=B"]),
        ("[Service]\nEnvironment=A=1 B=2\n", ["[Service]\nEnvironment='B=2'\n"], []),
        ("[Service]\nEnvironment=A=1 B=2\n", ["[Service]\nEnvironment=\n"], ["Environment=A", "Environment=B"]),
        ("[Service]\nEnvironment=A=1 B=2\n", ["[Service]\nEnvironment=\n", "[Service]\nEnvironment=A=1\n"], ["Environment=B"]),
    ],
)
def test_overridden(ours: str, later: list[str], keys: list[str]) -> None:
    files = [(str(number), parse(text)) for number, text in enumerate(later)]
    assert [key for _, key in overridden(parse(ours), files)] == keys


def test_a_boolean_in_another_spelling_overrides_nothing() -> None:
    later = [("x", parse("[Service]\nDelegate=true\n"))]
    assert overridden(parse("[Service]\nDelegate=yes\n"), later, frozenset({("Service", "Delegate")})) == []


WARNINGS = [
    ({"etc/systemd/system/demo.service.d/zz.conf": "[Service]\nNice=2\n"}, ["zz.conf overrides Nice= of"]),
    ({"etc/systemd/system/demo.service.d/10-a.conf": "[Service]\nNice=2\n"}, []),
    ({"usr/lib/systemd/system/demo.service": "[Service]\nNice=2\n"}, []),
    ({"run/systemd/system/service.d/zz.conf": "[Service]\nNice=2\n"}, ["service.d/zz.conf overrides Nice= of"]),
    ({"etc/systemd/system.control/demo.service.d/50-Nice.conf": "[Service]\nNice=2\n"}, []),
    ({"etc/systemd/system.control/demo.service.d/zz.conf": "[Service]\nNice=2\n"}, ["zz.conf overrides Nice= of"]),
    ({"run/systemd/transient/demo.service.d/forja.conf": ""}, ["forja.conf has the same file name and hides"]),
    ({"usr/lib/systemd/system/demo.service.d/forja.conf": "[Service]\nNice=2\n"}, []),
    ({"usr/lib/systemd/system/demo.service": "[Service]\nEnvironmentFile=-/etc/default/demo\n", "etc/default/demo": "# x\nA=2\nB=2\n"},
     ["etc/default/demo overrides Environment=A of"]),
    ({"usr/lib/systemd/system/demo.service": "[Service]\nEnvironmentFile=/etc/default/*\n", "etc/default/demo": "A='1 %'\n"}, []),
    ({"usr/lib/systemd/system/demo.service": "[Service]\nEnvironmentFile=/etc/default/demo\n", "etc/default/demo": "A=2\n",
      "etc/systemd/system/demo.service.d/a.conf": "[Service]\nEnvironmentFile=\n"}, []),
    ({"usr/lib/systemd/system/demo.service": "[Service]\nUnsetEnvironment=X A\n"}, ["demo.service overrides Environment=A of"]),
]


@pytest.mark.parametrize(("files", "expected"), WARNINGS)
def test_warnings_name_the_file(files: dict[str, str], expected: list[str], tmp_path: Path, place: Place) -> None:
    for path, text in files.items():
        write(tmp_path, path, text)
    goal = want(place, {"Service": {"Nice": 1}}, environment={"A": "1 %"})
    found = warnings(place, UNIT, goal.path, goal.entries or [], goal.booleans)
    assert len(found) == len(expected)
    assert all(text in warning for text, warning in zip(expected, found, strict=True))


def test_a_file_about_to_be_removed_overrides_nothing(tmp_path: Path, place: Place) -> None:
    former = write(tmp_path, "etc/systemd/system/demo.service.d/20-forja.conf", "[Service]\nNice=2\n")
    goal = want(place, {"Service": {"Nice": 1}}, order=10)
    assert warnings(place, UNIT, goal.path, goal.entries or [], goal.booleans)
    assert not warnings(place, UNIT, goal.path, goal.entries or [], goal.booleans, [former])


def test_a_masked_unit_is_a_warning(tmp_path: Path, place: Place) -> None:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/demo.service").symlink_to("/dev/null")
    assert "demo.service is masked" in warnings(place, UNIT, want(place).path, [], NO_BOOLEANS)[0]


def test_an_instance_may_override_its_template(tmp_path: Path, place: Place) -> None:
    write(tmp_path, "etc/systemd/system/foo@a.service.d/forja.conf", "")
    later = write(tmp_path, "etc/systemd/system/foo@b.service.d/zz.conf", "[Service]\nNice=2\n")
    goal = want(place, {"Service": {"Nice": 1}}, unit="foo@.service")
    hidden, overrides = warnings(place, goal.unit, goal.path, goal.entries or [], goal.booleans)
    assert hidden.endswith(" for foo@a.service")
    assert overrides == f"{later} overrides Nice= of {goal.path} for foo@b.service"


# --- systemd-analyze ---------------------------------------------------------------------------------------------------

CANARY = "{draft}:9: Unknown lvalue 'ForjaCanary' in section 'Unit'"


@pytest.mark.parametrize(
    ("said", "said_without", "notes"),
    [
        ([CANARY], [], []),
        ([CANARY, "/usr/lib/systemd/system/other.service:5: Unknown key name 'X' in section 'Unit', ignoring."], [], []),
        ([CANARY, "demo.service: Command /opt/x is not executable: No such file or directory"],
         ["demo.service: Command /opt/x is not executable: No such file or directory"], []),
        ([CANARY, "demo.service: Command /opt/x is not executable: No such file or directory"], [],
         ["systemd-analyze: demo.service: Command /opt/x is not executable: No such file or directory"]),
        ([CANARY, "{draft}:3: Unit uses MemoryLimit=; please use MemoryMax= instead."], [],
         ["systemd-analyze: {path}:3: Unit uses MemoryLimit=; please use MemoryMax= instead."]),
        ([CANARY, "demo.service: Service lacks ExecStart=. Refusing."], ["demo.service: Service lacks ExecStart=. Refusing."], []),
        (["Failed to initialize manager: No medium found"], [],
         ["systemd-analyze did not check the settings: Failed to initialize manager: No medium found"]),
        ([], [], ["systemd-analyze did not check the settings: it said nothing"]),
    ],
)
def test_what_systemd_analyze_says_and_we_accept(said: list[str], said_without: list[str], notes: list[str], tmp_path: Path) -> None:
    path = "/etc/systemd/system/demo.service.d/forja.conf"
    run = speaker(said, said_without)
    result = unit_verify.verify(run, "systemd-analyze", UNIT, path, "[Service]\nNice=1\n", installed(tmp_path), False)
    assert result == [note.format(path=path) for note in notes]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([CANARY, "[{draft}:3] Unknown lvalue 'Nope' in section 'Service'"], "[{path}:3] Unknown lvalue 'Nope'"),
        ([CANARY, "{draft}:3: Unknown key 'Nope' in section [Service], ignoring."], "{path}:3: Unknown key 'Nope'"),
        ([CANARY, "{draft}:3: Failed to parse RestartSec=abc, ignoring: Invalid argument"], "{path}:3: Failed to parse RestartSec=abc"),
        (["{draft}:1: Invalid section header '[Service'"], "{path}:1: Invalid section header"),
        ([CANARY, "demo.service: Service has more than one ExecStart= setting. Refusing."], "more than one ExecStart="),
    ],
)
def test_what_systemd_analyze_says_and_we_refuse(said: list[str], words: str, tmp_path: Path) -> None:
    path = "/etc/systemd/system/demo.service.d/forja.conf"
    with pytest.raises(ForjaError, match=re.escape(words.format(path=path))):
        unit_verify.verify(speaker(said, []), "systemd-analyze", UNIT, path, "[Service]\nNice=1\n", installed(tmp_path), False)


def installed(tmp_path: Path) -> str:
    return write(tmp_path, "demo.service", "[Service]\nExecStart=/bin/demo\n")


def speaker(said: list[str], said_without: list[str]) -> Run:
    """systemd-analyze that says the one with our settings and the other without them."""

    def run(argv: list[str]) -> Result:
        unit = Path(argv[-1])
        draft = unit.parent / "demo.service.d/forja.conf"
        assert argv[1] == f"XDG_RUNTIME_DIR={unit.parent}"
        assert unit.read_text() == "[Service]\nExecStart=/bin/demo\n"
        assert draft.read_text().endswith("ForjaCanary=yes\n")
        return Result(1, "", "\n".join(said if "Nice" in draft.read_text() else said_without).replace("{draft}", str(draft)))

    return run


def test_a_unit_that_is_not_installed_is_verified_as_a_stub(tmp_path: Path) -> None:
    seen: dict[str, str] = {}

    def run(argv: list[str]) -> Result:
        scratch = Path(argv[-1]).parent
        seen.update({str(path.relative_to(scratch)): path.read_text() for path in scratch.rglob("*.*") if path.is_file()})
        return Result(1, "", f"{scratch}/foo@.service.d/20-forja.conf:1: 'ForjaCanary'\nfoo@forja.service: no ExecStart. Refusing.")

    unit, path = "foo@.service", "/x/20-forja.conf"
    assert unit_verify.verify(run, "systemd-analyze", unit, path, "[Service]\n", None, True, ["/x/10-forja.conf"]) == []
    assert seen == {"foo@forja.service": "[Unit]\nDescription=stub\n", "foo@.service.d/10-forja.conf": "",
                    "foo@.service.d/20-forja.conf": "[Service]\n\n[Unit]\nForjaCanary=yes\n"}


def test_without_systemd_analyze_a_note_says_so() -> None:
    assert "not installed" in unit_verify.verify(lambda _: Result(0, "", ""), None, UNIT, "/x/forja.conf", "", None, False)[0]


# --- the running systemd -----------------------------------------------------------------------------------------------


def test_parse_show_keeps_units_and_repeated_properties_apart() -> None:
    text = "Id=a.service\nExecStart={ a=b }\nExecStart={ c }\nEnvironment=\n\n\nId=b.service\n"
    assert parse_show(text) == [{"Id": "a.service", "ExecStart": "{ a=b }\n{ c }", "Environment": ""}, {"Id": "b.service"}]
    assert parse_show("\n") == []


# Compared with `systemd --dump-configuration-items` and `systemctl show --all` of systemd 257.
@pytest.mark.parametrize(
    ("section", "key", "name"),
    [
        ("Service", "RestartSec", "RestartUSec"),
        ("Service", "LimitNOFILE", "LimitNOFILE"),
        ("Service", "EnvironmentFile", "EnvironmentFiles"),
        ("Service", "CPUQuota", "CPUQuotaPerSecUSec"),
        ("Service", "TimerSlackNSec", "TimerSlackNSec"),
        ("Unit", "After", "After"),
        ("Unit", "ConditionPathExists", None),
        ("Install", "WantedBy", None),
        ("Timer", "OnCalendar", "TimersCalendar"),
        ("Timer", "OnBootSec", "TimersMonotonic"),
        ("Timer", "AccuracySec", "AccuracyUSec"),
        ("Socket", "ListenStream", "Listen"),
        ("Path", "DirectoryNotEmpty", "Paths"),
    ],
)
def test_property_of(section: str, key: str, name: str | None) -> None:
    assert property_of(section, key) == name


@pytest.mark.parametrize(
    ("unit", "word"),
    [
        ({"ActiveState": "active", "NRestarts": "0"}, ""),
        ({"ActiveState": "failed"}, "failed"),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, "again and again"),
        ({"ActiveState": "active", "SubState": "running", "NRestarts": "2"}, "again and again"),
        ({"ActiveState": "inactive", "Type": "simple", "ConditionResult": "yes"}, "is not now"),
        ({"ActiveState": "inactive", "Type": "simple", "ConditionResult": "no"}, ""),
        ({"ActiveState": "inactive", "Type": "oneshot", "ConditionResult": "yes"}, ""),
        ({"ActiveState": "inactive"}, ""),
    ],
)
def test_trouble_after_a_restart(unit: dict[str, str], word: str) -> None:
    assert word in trouble(dict(unit, Id=UNIT))
    assert bool(trouble(dict(unit, Id=UNIT))) == bool(word)


STARTED = 1_000_000_000.5  # 2001-09-09 01:46:40.5 UTC; the host was up for 100 s then, and 1000 s have passed since
NOW = Clock(STARTED + 1000, 1100, 1100)
SHOWN = {"NeedDaemonReload": "no", "InactiveExitTimestamp": "Sun 2001-09-09 01:46:40 UTC", "InactiveExitTimestampMonotonic": "100000000"}


@pytest.mark.parametrize(
    ("change", "mtime", "now", "older"),
    [
        ({}, STARTED + 0.01, NOW, True),
        ({}, STARTED - 0.01, NOW, False),
        ({}, None, NOW, False),
        ({"NeedDaemonReload": "yes"}, None, NOW, True),
        ({"NeedDaemonReload": "yes"}, STARTED - 9, NOW, True),
        # The main process was started anew later on.
        ({"ExecMainStartTimestamp": "Sun 2001-09-09 01:55:00 UTC", "ExecMainStartTimestampMonotonic": "599500000"},
         STARTED + 9, NOW, False),
        # The clock was set after the start: systemd's stamp says 1970.
        ({"InactiveExitTimestamp": "Thu 1970-01-01 00:01:40 UTC"}, STARTED - 50, NOW, False),
        ({"InactiveExitTimestamp": "Thu 1970-01-01 00:01:40 UTC"}, STARTED + 50, NOW, True),
        # The host slept for 500 of the 1000 seconds: the monotonic clock puts the start 500 s too late.
        ({}, STARTED + 50, NOW._replace(monotonic=600), True),
        ({}, STARTED - 0.01, NOW._replace(monotonic=600), False),
    ],
)
def test_older_than(change: dict[str, str], mtime: float | None, now: Clock, older: bool) -> None:
    assert older_than(dict(SHOWN, **change), mtime, now) is older


# --- the plan ----------------------------------------------------------------------------------------------------------

NOTHING = Found("absent", "absent", {}, "", [], False, "", None, [], True, "", None)
ACTIVE = [{"Id": UNIT, "ActiveState": "active", "LoadState": "loaded"}]
FOLDER = "/etc/systemd/system/demo.service.d"
PATH = FOLDER + "/forja.conf"
SYSTEM = unit_paths.place("system", "/", 0, 0, "/root")
NICE = want(SYSTEM, {"Service": {"Nice": 1}})
OURS = NOTHING._replace(kind="file", folder="directory", files={PATH: NICE.text})
OTHER = want(SYSTEM, {"Service": {"Nice": 2}})
GONE = want(SYSTEM, present=False)
ORDERED = {FOLDER + "/10-forja.conf": NICE.text}
RESTART = NICE._replace(restart=True)

PLANS = [
    ("new", NOTHING, NICE, ["mkdir", "write", "reload"]),
    ("same", OURS, NICE, []),
    ("same meaning", OURS._replace(files={PATH: "; by hand\n[Service]\nNice = 1"}), NICE, []),
    ("other meaning", OURS, OTHER, ["write", "reload"]),
    ("damaged", OURS._replace(files={PATH: ""}), NICE, ["write", "reload"]),
    ("damaged more", OURS._replace(files={PATH: "\0\0\0[Service]\nNice=1\n"}), NICE, ["write", "reload"]),
    ("without settings", OURS._replace(files={PATH: "\udcff[[[\n# x"}), NICE, ["write", "reload"]),
    ("ours with bytes", OURS._replace(files={PATH: NICE.text + "User=\udcff\n"}), NICE, ["write", "reload"]),
    ("wrong mode", OURS._replace(wrong="mode 0600, owner 0:0", units=ACTIVE), RESTART, ["own"]),
    ("no reload wanted", NOTHING, NICE._replace(reload=False), ["mkdir", "write"]),
    ("no systemd", NOTHING._replace(unreachable="none"), RESTART, ["mkdir", "write"]),
    ("restart", NOTHING._replace(units=ACTIVE), RESTART, ["mkdir", "write", "reload", "restart"]),
    ("not running", NOTHING._replace(units=[{"Id": UNIT, "ActiveState": "inactive"}]), RESTART, ["mkdir", "write", "reload"]),
    ("crashing", NOTHING._replace(units=[{"Id": UNIT, "ActiveState": "activating", "SubState": "auto-restart"}]), RESTART,
     ["mkdir", "write", "reload"]),
    ("restart, same", OURS._replace(units=ACTIVE), RESTART, []),
    ("restart owed", OURS._replace(units=ACTIVE, undone={}), RESTART, ["reload", "restart"]),
    ("other order", NOTHING._replace(folder="directory", files=ORDERED), NICE, ["write", "remove", "reload"]),
    ("left over", OURS._replace(leftovers=[FOLDER + "/.forja.conf.x1"]), NICE, ["remove"]),
    ("absent", OURS, GONE, ["remove", "rmdir", "reload"]),
    ("absent, others", OURS._replace(others=True), GONE, ["remove", "reload"]),
    ("absent in any order", OURS._replace(files=ORDERED, kind="absent"), GONE, ["remove", "rmdir", "reload"]),
    ("already absent", NOTHING, GONE, []),
    ("empty folder", NOTHING._replace(folder="directory"), GONE, ["rmdir"]),
    ("absent, masked", NOTHING._replace(folder="directory", kind="mask", others=True), GONE, []),
]


@pytest.mark.parametrize(("found", "goal", "actions"), [plan[1:] for plan in PLANS], ids=[plan[0] for plan in PLANS])
def test_plan(found: Found, goal: Want, actions: list[str]) -> None:
    assert [step.action for step in dropin.plan(found, goal, SYSTEM)] == actions


@pytest.mark.parametrize(
    ("found", "goal", "message"),
    [
        (NOTHING._replace(folder="file"), NICE, "demo.service.d is in the way"),
        (NOTHING._replace(folder="file"), GONE, "demo.service.d is in the way"),
        (NOTHING._replace(folder="link"), NICE, "demo.service.d is in the way"),
        (NOTHING._replace(folder="directory", kind="directory"), NICE, "found a directory"),
        (NOTHING._replace(folder="directory", kind="link"), NICE, "found a link"),
        (NOTHING._replace(folder="directory", kind="mask"), NICE, "somebody masked this drop-in"),
        (OURS._replace(files={PATH: "[Service]\nNice=1\n"}), OTHER, "was not written by this module"),
        (OURS._replace(files={PATH: "[Service]\nNice=1\n"}), GONE, "was not written by this module"),
        (OURS._replace(files={PATH: NICE.text.replace("name: forja", "name: forja2")}), OTHER, "was not written by this module"),
        (NOTHING._replace(unwritable="/etc"), NICE, "/etc cannot be written to"),
    ],
)
def test_what_is_in_the_way(found: Found, goal: Want, message: str) -> None:
    with pytest.raises(ForjaError, match=message):
        dropin.plan(found, goal, SYSTEM)


def test_an_unwritable_folder_does_not_matter_where_nothing_is_to_do() -> None:
    assert dropin.plan(OURS._replace(unwritable=FOLDER), NICE, SYSTEM) == []


@pytest.mark.parametrize(
    ("found", "goal", "words"),
    [
        (NOTHING._replace(installed=False), NICE, ["is not installed"]),
        (NOTHING._replace(installed=False), GONE, []),
        (NOTHING._replace(unreachable="no systemd is running"), NICE, ["no systemd is running"]),
        (OURS._replace(unreachable="no systemd is running"), NICE, []),
        (NOTHING, RESTART, ["is not running"]),
        (OURS._replace(units=[dict(ACTIVE[0], NeedDaemonReload="yes")]), NICE, ["systemctl daemon-reload"]),
        (OURS._replace(files={PATH: "[Service]\nNice=1\n"}), NICE, ["left as it is"]),
        (NOTHING._replace(folder="directory", kind="mask"), GONE, ["link to /dev/null"]),
        (OURS, NICE, []),
    ],
)
def test_notes(found: Found, goal: Want, words: list[str]) -> None:
    notes = dropin.notes(found, goal, dropin.plan(found, goal, SYSTEM))
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))


@pytest.mark.parametrize(
    ("units", "actions", "pending"),
    [
        (ACTIVE, ["write", "reload"], True),
        (ACTIVE, ["write", "reload", "restart"], False),
        (ACTIVE, ["own"], False),
        (ACTIVE, [], False),
        ([dict(ACTIVE[0], NeedDaemonReload="yes")], [], True),
        ([{"Id": UNIT, "ActiveState": "inactive", "NeedDaemonReload": "yes"}], ["write"], False),
        ([], ["write"], False),
    ],
)
def test_restart_pending(units: list[dict[str, str]], actions: list[str], pending: bool) -> None:
    steps = [Step(action, PATH, "") for action in actions]
    assert dropin.restart_pending(OURS._replace(units=units), steps, NOW) is pending


def test_states_are_those_of_the_units() -> None:
    units = [{"Id": "a@1.service", "ActiveState": "active", "MainPID": "7"}, {"Id": "a@2.timer", "ActiveState": "inactive"}]
    assert dropin.states(NOTHING._replace(units=units)) == [{"name": "a@1.service", "active_state": "active", "main_pid": 7},
                                                            {"name": "a@2.timer", "active_state": "inactive", "main_pid": 0}]


def test_effective_is_what_systemd_prints_and_null_for_the_rest() -> None:
    goal = want(SYSTEM, {"Service": {"RestartSec": 5, "LoadCredential": "a:b"}, "Unit": {"ConditionHost": "x"}})
    unit = {"LoadState": "loaded", "RestartUSec": "5s", "LoadCredential": "[unprintable]"}
    nothing = {"Service": {"RestartSec": None, "LoadCredential": None}, "Unit": {"ConditionHost": None}}
    assert dropin.effective(NOTHING._replace(units=[unit]), goal) == {**nothing, "Service": {"RestartSec": "5s", "LoadCredential": None}}
    assert dropin.effective(NOTHING._replace(units=[dict(unit, LoadState="not-found")]), goal) == nothing
    assert dropin.effective(NOTHING._replace(units=[unit]), goal._replace(unit="foo@.service")) == nothing
    assert dropin.effective(NOTHING, goal) == nothing


# --- doing it, on real files -------------------------------------------------------------------------------------------

SETTINGS = st.dictionaries(st.sampled_from(["Nice", "ExecStart", "Environment", "After"]),
                           st.sampled_from(["", "1", ["", "a b"], "x=1 'y=2'"]))
GOALS = st.fixed_dictionaries({
    "settings": st.fixed_dictionaries({"Service": SETTINGS}), "order": st.sampled_from([None, 5, 20]), "present": st.booleans(),
    "environment": st.dictionaries(st.sampled_from(["A", "B"]), st.text(st.characters(exclude_categories=["Cs", "Cc"]))),
})
BESIDE = st.dictionaries(st.sampled_from(["10-forja2.conf", "override.conf", "forja.conf.bak"]), st.binary())


@given(st.lists(GOALS, min_size=1, max_size=4), BESIDE)
def test_planning_again_finds_nothing_to_do_and_check_predicts_the_run(goals: list[dict[str, Any]], beside: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        where = place_under(root)
        for name, content in beside.items():
            write(root, f"etc/systemd/system/{UNIT}.d/{name}", "")
            (root / f"etc/systemd/system/{UNIT}.d/{name}").write_bytes(content)
        host = host_with(where, FakeSystemd(root))
        for options in goals:
            goal = want(where, **options)
            before = tree(root)
            predicted = converge(host, goal, check=True)
            assert tree(root) == before
            assert converge(host, goal) == predicted
            assert converge(host, goal) == []
            assert os.path.exists(goal.path) is options["present"]
            left = {name: content.decode("latin-1") for name, content in beside.items()}
            assert {path.rpartition("/")[2]: text for path, text in tree(root).items() if path.rpartition("/")[2] in left} == left


def test_a_foreign_file_that_is_named_like_ours_stays(tmp_path: Path, place: Place, systemd: FakeSystemd) -> None:
    foreign = [write(tmp_path, f"etc/systemd/system/{UNIT}.d/{name}.conf") for name in ("20-forja", "30-forja")]
    host = host_with(place, systemd)
    assert converge(host, want(place, {"Service": {"Nice": 2}}, order=10)) == ["write", "reload"]
    assert converge(host, want(place, {"Service": {"Nice": 2}})) == ["write", "remove", "reload"]
    assert converge(host, want(place, present=False)) == ["remove", "reload"]
    assert [path for path in foreign if Path(path).read_text() == "[Service]\nNice=1\n"] == foreign


def test_a_template_is_its_loaded_instances(place: Place, systemd: FakeSystemd) -> None:
    dropin.gather(place, host_with(place, systemd).manager, want(place, {"Service": {"RestartSec": 1}}, unit="foo@.service"))
    assert systemd.calls[0].startswith("systemctl show foo@*.service ")
    assert "--property=RestartUSec" in systemd.calls[0]


def test_files_have_mode_0644_and_a_wrong_mode_is_corrected(place: Place, systemd: FakeSystemd) -> None:
    host, goal = host_with(place, systemd), want(place, {"Service": {"Nice": 1}})
    old = os.umask(0o077)
    try:
        converge(host, goal)
    finally:
        os.umask(old)
    assert os.stat(goal.path).st_mode & 0o7777 == 0o644
    assert os.stat(os.path.dirname(goal.path)).st_mode & 0o7777 == 0o755
    os.chmod(goal.path, 0o666)
    assert converge(host, goal) == ["own"]
    assert os.stat(goal.path).st_mode & 0o7777 == 0o644


def test_a_unit_that_fails_gets_its_previous_settings_back(tmp_path: Path, place: Place, systemd: FakeSystemd) -> None:
    host = host_with(place, systemd)
    converge(host, want(place, {"Service": {"Nice": 1}}, restart=True))
    before = tree(tmp_path)
    with pytest.raises(ForjaError, match="(?s)failed after its restart.*Nice is broken.*are back; started with them: demo.service"):
        converge(host, want(place, {"Service": {"Nice": "broken"}}, order=20, restart=True))
    assert tree(tmp_path) == before
    assert systemd.state == "active"
    assert systemd.loaded == systemd.settings()
    assert not list((tmp_path / "run/forja").iterdir())


def test_a_unit_that_fails_with_its_first_drop_in_has_none_afterwards(tmp_path: Path, place: Place, systemd: FakeSystemd) -> None:
    with pytest.raises(ForjaError):
        converge(host_with(place, systemd), want(place, {"Service": {"Nice": "broken"}}, restart=True))
    assert tree(tmp_path) == {"etc/systemd": "", "etc/systemd/system": ""}
    assert systemd.state == "active"


def test_a_full_disk_changes_nothing_and_restarts_nothing(tmp_path: Path, place: Place, systemd: FakeSystemd) -> None:
    host = host_with(place, systemd)
    converge(host, want(place, {"Service": {"Nice": 1}}))
    before, calls = tree(tmp_path), len(systemd.calls)

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ForjaError, match="could not rewrite .*forja.conf: No space left"):
        converge(host._replace(replace=full), want(place, {"Service": {"Nice": 2}}, restart=True))
    assert tree(tmp_path) == before
    assert not any("restart" in call or "reload" in call for call in systemd.calls[calls:])


def test_a_failing_reload_is_taken_back_without_a_restart(tmp_path: Path, place: Place, systemd: FakeSystemd) -> None:
    failing = [True]

    def run(argv: list[str]) -> Result:
        if "daemon-reload" in argv and failing:
            failing.clear()
            return Result(1, "", "Failed to reload daemon: Transport endpoint is not connected")
        return systemd(argv)

    with pytest.raises(ForjaError, match="Transport endpoint"):
        converge(host_with(place, run), want(place, {"Service": {"Nice": 1}}, restart=True))
    assert not systemd.called("restart")
    assert not systemd.settings()


class PowerCutError(BaseException):
    pass


@pytest.mark.parametrize("verb", ["daemon-reload", "try-restart"])
@pytest.mark.parametrize("value", [1, "broken"])
def test_a_run_that_was_cut_off_is_made_up_for(verb: str, value: Any, tmp_path: Path, place: Place, systemd: FakeSystemd) -> None:
    host, goal = host_with(place, systemd), want(place, {"Service": {"Nice": value}}, restart=True)

    def cut(argv: list[str]) -> Result:
        if verb in argv:
            raise PowerCutError
        return systemd(argv)

    with pytest.raises(PowerCutError):
        converge(host_with(place, cut), goal)
    assert dropin_debt.owed(place, UNIT, "forja") == {goal.path: None}
    assert [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "run/forja").iterdir()] == ["0o600"]
    if value == 1:
        assert converge(host, goal) == ["reload", "restart"]
        assert systemd.loaded == goal.text
    else:
        with pytest.raises(ForjaError, match="previous settings are back"):
            converge(host, goal)
        assert not systemd.settings()
        assert systemd.state == "active"
    assert dropin_debt.owed(place, UNIT, "forja") is None


def test_a_restart_that_systemd_refuses_has_its_words(place: Place) -> None:
    def run(argv: list[str]) -> Result:
        return Result(1, "", "Job for demo.service failed.") if "try-restart" in argv else Result(0, "line\n", "")

    with pytest.raises(ForjaError, match="(?s)systemctl --user try-restart demo.service: Job for demo.service failed.*last lines:\nline"):
        Manager(run, True).restart([UNIT])


@pytest.mark.parametrize("kind", ["directory", "link", "mask", "other"])
def test_what_lies_at_the_path_is_recognised(kind: str, place: Place, systemd: FakeSystemd) -> None:
    goal = want(place, {"Service": {"Nice": 1}})
    path = Path(goal.path)
    path.parent.mkdir(parents=True)
    if kind == "directory":
        path.mkdir()
    elif kind == "other":
        os.mkfifo(path)
    else:
        path.symlink_to({"link": "elsewhere", "mask": "/dev/null"}[kind])
    assert dropin.gather(place, host_with(place, systemd).manager, goal).kind == kind
    with pytest.raises(ForjaError):
        converge(host_with(place, systemd), goal)


def test_a_linked_folder_stays(tmp_path: Path, place: Place, systemd: FakeSystemd) -> None:
    goal = want(place, {"Service": {"Nice": 1}})
    (tmp_path / "elsewhere").mkdir()
    Path(goal.path).parent.parent.mkdir(parents=True)
    Path(goal.path).parent.symlink_to(tmp_path / "elsewhere")
    host = host_with(place, systemd)
    assert converge(host, goal) == ["write", "reload"]
    assert converge(host, want(place, present=False)) == ["remove", "reload"]
    assert (tmp_path / "elsewhere").is_dir()


# --- the module --------------------------------------------------------------------------------------------------------


class Exit(Exception):  # noqa: N818 - the way AnsibleModule ends
    pass


@pytest.fixture
def run_module(tmp_path: Path, systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    module = AnsibleModule
    real_place = unit_paths.place

    def end(_: Any, **result: Any) -> None:
        raise Exit(json.dumps(result))

    monkeypatch.setattr(systemd_dropin, "ROOT", str(tmp_path))
    monkeypatch.setattr(unit_paths, "place", lambda *words: real_place(*words)._replace(uid=os.getuid(), gid=os.getgid()))
    monkeypatch.setattr("plugins.module_utils.forja.systemd.manager.WATCH_SECONDS", 0)
    monkeypatch.setattr(module, "run_command", lambda _, argv, **_environment: systemd(argv))
    monkeypatch.setattr(module, "get_bin_path", lambda _, name: name)
    monkeypatch.setattr(module, "exit_json", end)
    monkeypatch.setattr(module, "fail_json", lambda _, **result: end(_, failed=True, **result))
    warned: list[str] = []
    monkeypatch.setattr(module, "warn", lambda _, text: warned.append(text))

    def run(check: bool = False, **params: Any) -> dict[str, Any]:
        warned.clear()
        with patch_module_args({"unit": UNIT, "_ansible_check_mode": check, **params}), pytest.raises(Exit) as ended:
            systemd_dropin.main()
        return {**json.loads(str(ended.value)), "warnings": list(warned)}

    return run


def test_module(tmp_path: Path, systemd: FakeSystemd, run_module: Callable[..., dict[str, Any]]) -> None:
    later = write(tmp_path, "etc/systemd/system/demo.service.d/zz.conf", "[Service]\nNice=2\n")
    params = {"settings": {"Service": {"Nice": 1}}, "environment": {"A": "50% $x"}, "restart": "changed"}
    checked, ran, again = run_module(check=True, **params), run_module(**params), run_module(**params)

    path = str(tmp_path / "etc/systemd/system/demo.service.d/forja.conf")
    assert ran["changed"] is checked["changed"] is True
    assert (ran["steps"], ran["diff"], ran["path"], ran["notes"]) == tuple(checked[name] for name in ("steps", "diff", "path", "notes"))
    assert ran["steps"] == [f"create {path}", "make systemd read its unit files again", "restart demo.service"]
    assert 'Environment="A=50%% $x"' in Path(path).read_text()
    assert ran["diff"][0]["after"] == Path(path).read_text()
    assert ran["effective"]["Service"]["Nice"] == "2"
    assert ran["warnings"] == checked["warnings"] == again["warnings"] == [f"{later} overrides Nice= of {path}"]
    assert (again["changed"], again["steps"], again["diff"], again["restart_pending"]) == (False, [], [], False)
    assert (systemd.called("daemon-reload"), systemd.called("try-restart")) == (1, 1)

    assert run_module(state="absent")["changed"]
    assert not Path(path).exists()
    assert Path(later).exists()


@pytest.mark.parametrize("check", [True, False])
def test_module_refuses_an_invalid_setting_and_leaves_the_old_file(check: bool, run_module: Callable[..., dict[str, Any]]) -> None:
    path = Path(run_module(settings={"Service": {"Nice": 1}})["path"])
    before = path.read_text()
    result = run_module(check=check, settings={"Service": {"Nope": 1}})
    assert result["failed"]
    assert f"{path}:4: Unknown key 'Nope=1'" in result["msg"]
    assert path.read_text() == before
    assert run_module(settings={"Service": {"Nope": 1}}, validate=False)["changed"]


def test_module_fails_if_something_is_left_to_do(run_module: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd_dropin, "apply", lambda *_: None)
    assert "this is still to do: create " in run_module(settings={"Service": {"Nice": 1}})["msg"]


def test_module_verifies_settings_of_users_as_such(run_module: Callable[..., dict[str, Any]], systemd: FakeSystemd) -> None:
    run_module(settings={"Service": {"Nice": 1}})
    run_module(settings={"Service": {"Nice": 1}}, scope="global")
    assert ["--user" in call for call in systemd.calls if "verify" in call] == [False, True]


def test_module_without_a_running_systemd(tmp_path: Path, systemd: FakeSystemd, run_module: Callable[..., dict[str, Any]]) -> None:
    (tmp_path / "run/systemd/system").rmdir()
    result = run_module(settings={"Service": {"Nice": 1}}, restart="changed", validate=False)
    assert result["changed"]
    assert not systemd.calls
    assert "no systemd is running" in result["notes"][0]
    assert result["effective"] == {"Service": {"Nice": None}}
    assert result["restart_pending"] is False


def test_module_fails_with_a_sentence_on_wrong_parameters(run_module: Callable[..., dict[str, Any]]) -> None:
    assert "Nice= in [Service] has no value" in run_module(settings={"Service": {"Nice": None}})["msg"]
