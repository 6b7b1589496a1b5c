# SPDX-License-Identifier: Apache-2.0
"""The module systemd_service_up: the plan as a table, and a made-up systemd whose services come up, crash, hang or are missing."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
from email.message import Message
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from plugins.module_utils.forja.host.converge import Outcome, converge
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.run import Result
from plugins.module_utils.forja.systemd.endpoint import Endpoint, ask
from plugins.module_utils.forja.systemd.manager import Clock, Manager
from plugins.module_utils.forja.systemd.service_up import Request, Service, State, Step, at_boot, describe, is_up, plan, unit_name
from plugins.modules import systemd_service_up

UNIT = "demo.service"
UP = Request(UNIT, True, True, False, False)
URL = Endpoint(url="http://127.0.0.1:80/")


class FakeSystemd:
    """One unit above a clock of its own. `life` is what becomes of a started process: up, crash, exits, hangs, skipped, once."""

    def __init__(self, life: str = "up", *, running: bool = False, known: bool = True, file: bool = True) -> None:
        self.life, self.known, self.file, self.time = life, known, file, 1000.0
        self.properties = {"Id": UNIT, "Type": "simple", "RemainAfterExit": "no", "ConditionResult": "yes", "Result": "success",
                           "ActiveState": "inactive", "SubState": "dead", "NRestarts": "0", "NeedDaemonReload": "no", "MainPID": "0",
                           "UnitFileState": "disabled", "ExecMainStatus": "0", "ExecMainCode": "0"}
        self.calls: list[str] = []
        if running:
            self.up()
            self.properties["UnitFileState"] = "enabled"

    def up(self) -> None:
        self.properties.update(ActiveState="active", SubState="running", MainPID="7", InactiveExitTimestampMonotonic=self.stamp())

    def stamp(self) -> str:
        return str(int(self.time * 1e6))

    def run(self, argv: list[str]) -> Result:
        words = [word for word in argv if not word.startswith("-")]
        words = words[2:] if words[0] == "timeout" else words
        if words[0] == "journalctl":
            fresh = any(word.startswith("--since=") for word in argv)
            return Result(0, "-- No entries --\n" if fresh and self.life == "silent" else "http://u:pw@host refused\nbind: in use\n", "")
        verb = words[1]
        if verb == "show":
            load = {} if self.known else {"UnitFileState": "", "ActiveState": "inactive"}
            shown = {**self.properties, **load, "LoadState": "loaded" if self.known else "not-found"}
            return Result(0, "".join(f"{name}={value}\n" for name, value in shown.items()), "")
        self.calls.append(verb)
        self.time += 0.5
        if verb == "daemon-reload":
            self.known, self.properties["NeedDaemonReload"] = self.file, "no"
        elif verb in ("enable", "disable"):
            self.properties["UnitFileState"] = verb + "d"
        elif verb == "stop":
            self.properties.update(ActiveState="inactive", SubState="dead", MainPID="0")
        elif verb in ("start", "restart"):
            return self.start(verb)
        return Result(0, "", "")

    def start(self, verb: str) -> Result:
        self.properties.update(InactiveExitTimestampMonotonic=self.stamp(), NRestarts="0")
        if self.life == "hangs":
            self.properties.update(ActiveState="activating", SubState="start")
            return Result(124, "", "")
        if self.life == "refused":
            self.properties.update(ActiveState="failed", SubState="failed", Result="exit-code", ExecMainCode="1", ExecMainStatus="226")
            return Result(1, "", f"Job for {UNIT} failed because the control process exited with error code.\nSee more.")
        if self.life == "skipped":
            self.properties["ConditionResult"] = "no"
            return Result(0, "", "")
        if self.life == "once":
            self.properties.update(Type="oneshot", ExecMainExitTimestampMonotonic=self.stamp())
            return Result(0, "", "")
        self.up()
        return Result(0, "", "")

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        if self.life == "crash" and self.properties["ActiveState"] == "active":
            self.properties.update(ActiveState="activating", SubState="auto-restart", Result="exit-code", ExecMainCode="1",
                                   ExecMainStatus="1", NRestarts="2", MainPID="0")
        if self.life == "exits":
            self.properties.update(ActiveState="inactive", SubState="dead", ExecMainCode="1", MainPID="0")

    def clock(self) -> Clock:
        return Clock(self.time, self.time, self.time)

    def service(self, request: Request = UP, endpoint: Endpoint | None = None, opener: Any = None) -> Service:
        return Service(Manager(self.run, False, self.sleep), request, endpoint or Endpoint(), opener, 30, 2.0, self.clock)

    def converge(self, request: Request = UP, endpoint: Endpoint | None = None, opener: Any = None, *, check: bool = False) -> list[str]:
        service = self.service(request, endpoint, opener)
        outcome: Outcome[State, Step] = converge(service.gather, lambda state: plan(state, request), service.apply, check)
        return [step.action for step in outcome.steps]


# The plan

@pytest.mark.parametrize(("unit", "request_", "actions"), [
    ({"ActiveState": "active", "UnitFileState": "enabled"}, UP, []),
    ({"ActiveState": "inactive", "UnitFileState": "disabled"}, UP, ["enable", "start"]),
    ({"ActiveState": "inactive", "UnitFileState": "disabled"}, UP._replace(enabled=None), ["start"]),
    ({"ActiveState": "failed", "UnitFileState": "static"}, UP, ["start"]),
    ({"ActiveState": "activating", "SubState": "auto-restart", "UnitFileState": "enabled"}, UP, ["start"]),
    ({"ActiveState": "activating", "SubState": "start", "UnitFileState": "enabled"}, UP, []),
    ({"LoadState": "not-found", "ActiveState": "inactive"}, UP, ["daemon-reload", "enable", "start"]),
    ({"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "yes"}, UP, []),
    ({"ActiveState": "inactive", "UnitFileState": "enabled", "NeedDaemonReload": "yes"}, UP, ["daemon-reload", "start"]),
    ({"ActiveState": "active", "UnitFileState": "enabled"}, UP._replace(enabled=False), ["disable"]),
    ({"ActiveState": "active", "UnitFileState": "enabled"}, UP._replace(restart=True, asked=5), ["restart"]),
    ({"ActiveState": "active", "UnitFileState": "enabled", "InactiveExitTimestampMonotonic": "6000000"},
     UP._replace(restart=True, asked=5), []),
    ({"ActiveState": "active", "UnitFileState": "enabled", "InactiveExitTimestampMonotonic": "6000000"},
     UP._replace(config_mtime=97.0), ["restart"]),  # the unit is 4 s old, the file 3 s
    ({"ActiveState": "active", "UnitFileState": "enabled", "InactiveExitTimestampMonotonic": "6000000"},
     UP._replace(config_mtime=95.0), []),
    ({"ActiveState": "active", "UnitFileState": "enabled"}, UP._replace(reload=True), ["reload"]),
    ({"ActiveState": "inactive", "UnitFileState": "enabled"}, UP._replace(reload=True, restart=True), ["start"]),
    ({"ActiveState": "active", "UnitFileState": "enabled"}, Request(UNIT, False, False, False, False), ["stop", "disable"]),
    ({"ActiveState": "activating", "SubState": "auto-restart"}, Request(UNIT, False, False, False, False), ["stop"]),
    ({"LoadState": "not-found", "ActiveState": "inactive"}, Request(UNIT, False, False, False, False), []),
])
def test_plan(unit: dict[str, str], request_: Request, actions: list[str]) -> None:
    state = State({"LoadState": "loaded", **unit}, Clock(100.0, 10.0, 10.0))
    assert [step.action for step in plan(state, request_)] == actions


def test_a_masked_unit_is_refused_and_may_be_stopped() -> None:
    state = State({"LoadState": "masked", "ActiveState": "inactive", "UnitFileState": "masked"}, Clock(0, 0, 0))
    with pytest.raises(ForjaError, match="unmask demo.service"):
        plan(state, UP)
    assert plan(state, Request(UNIT, False, False, False, False)) == []


def test_names() -> None:
    assert unit_name("docker") == "docker.service"
    assert unit_name("a@b.timer") == "a@b.timer"
    with pytest.raises(ForjaError, match="template"):
        unit_name("a@.service")


# Applying

def test_a_service_is_started_and_then_left_alone() -> None:
    systemd = FakeSystemd()
    assert systemd.converge() == ["enable", "start"]
    assert systemd.properties["ActiveState"] == "active"
    assert systemd.converge() == []


def test_a_check_predicts_and_changes_nothing() -> None:
    systemd = FakeSystemd(known=False)
    assert systemd.converge(check=True) == ["daemon-reload", "enable", "start"]
    assert systemd.calls == []


def test_a_unit_file_that_came_just_now_is_read() -> None:
    systemd = FakeSystemd(known=False)
    assert systemd.converge() == ["daemon-reload", "enable", "start"]
    assert systemd.known


def test_a_unit_that_nobody_installed() -> None:
    with pytest.raises(ForjaError, match="demo.service is not installed"):
        FakeSystemd(known=False, file=False).converge()


def test_a_crash_loop_is_told_at_once_with_the_journal() -> None:
    systemd = FakeSystemd("crash")
    with pytest.raises(ForjaError) as raised:
        systemd.converge(endpoint=URL, opener=refuse)
    assert systemd.time < 1005, "it must not wait for the time-out"
    assert re.search(r"again and again\. Found: activating \(auto-restart\), result exit-code, exit status 1, restarted 2 times\. Expected",
                     str(raised.value))
    assert str(raised.value).endswith("http://***@host refused\nbind: in use")


@pytest.mark.parametrize(("life", "said"), [
    ("exits", r"demo.service ended\. Found: inactive \(dead\), exit status 0"),
    ("hangs", r"start failed: systemctl start has not ended within 30 s"),
    ("refused", r"Job for demo.service failed .*result exit-code, exit status 226 \(a folder named in the unit is missing"),
    ("skipped", r"a condition in its unit file does not hold"),
])
def test_what_keeps_a_service_down(life: str, said: str) -> None:
    with pytest.raises(ForjaError, match=said):
        FakeSystemd(life).converge()


def test_a_oneshot_is_up_once_it_has_ended_well() -> None:
    systemd = FakeSystemd("once")
    assert systemd.converge() == ["enable", "start"]
    assert systemd.converge() == []


def test_restarts_of_long_ago_are_no_crash_loop() -> None:
    systemd = FakeSystemd(running=True)
    systemd.properties["NRestarts"] = "5"
    service = systemd.service()
    service.await_up(service.gather())
    assert systemd.calls == []
    systemd.properties["NRestarts"] = "6"
    with pytest.raises(ForjaError, match="again and again"):
        service.await_up(State({**service.gather().unit, "NRestarts": "5"}, systemd.clock()))


def test_a_restart_is_done_once() -> None:
    systemd = FakeSystemd(running=True)
    assert systemd.converge(UP._replace(restart=True, asked=1000.1)) == ["restart"]
    assert systemd.calls == ["reset-failed", "restart"]
    assert systemd.converge(UP._replace(reload=True)) == ["reload"]


# Answers

def refuse(_url: str, _path: str, _seconds: float) -> Any:
    raise urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))


class Response(BytesIO):
    def getcode(self) -> int:
        return 200


def test_it_waits_until_the_service_answers() -> None:
    systemd, asked = FakeSystemd(), []

    def opener(url: str, _path: str, _seconds: float) -> Any:
        asked.append(systemd.time)
        if len(asked) < 4:
            raise urllib.error.URLError("refused")
        return Response(b'{"Version": "26.1"}')

    service = systemd.service(UP, URL, opener)
    converge(service.gather, lambda state: plan(state, UP), service.apply, False)
    assert service.answer is not None
    assert service.answer.data == {"Version": "26.1"}


def test_a_service_that_never_answers() -> None:
    systemd = FakeSystemd(running=True)
    service = systemd.service(UP, URL, refuse)
    found = r"does not answer at http://127.0.0.1:80/ within 30 s: .*refused\. Found: active \(running\), process 7"
    with pytest.raises(ForjaError, match=found):
        service.await_up(service.gather())


def test_a_stranger_at_the_address_is_named_before_anything_changes() -> None:
    systemd = FakeSystemd()
    with pytest.raises(ForjaError, match="another program listens there"):
        systemd.converge(endpoint=URL, opener=lambda *_: Response(b"hello"))
    assert systemd.calls == []


def status(code: int) -> Any:
    def opener(url: str, _path: str, _seconds: float) -> Any:
        raise urllib.error.HTTPError(url, code, "x", Message(), BytesIO(b"[]"))

    return opener


@pytest.mark.parametrize(("code", "accepted", "ok"), [(404, [], True), (503, [], False), (503, [503], True), (404, [200], False)])
def test_status(code: int, accepted: list[int], ok: bool) -> None:
    answer = ask(URL._replace(status=accepted), status(code), 1)
    assert (answer.ok, answer.status, answer.data) == (ok, code, None)


def test_ports_and_sockets(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
        unix.bind(str(path))
        port = tcp.getsockname()[1]
        assert not ask(Endpoint(path=str(path)), refuse, 1).ok, "nobody listens yet"
        unix.listen()
        assert ask(Endpoint(path=str(path)), refuse, 1).ok
        assert ask(Endpoint(port=port), refuse, 1).ok
    assert "refused" in ask(Endpoint(port=port), refuse, 1).found
    assert str(Endpoint(url="http://u:pw@h/", path="/run/x")) == "http://***@h/ over /run/x"


# The module

def play(arguments: dict[str, Any], systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setattr(AnsibleModule, "run_command", lambda _self, argv, **_: systemd.run(argv))
    monkeypatch.setattr(systemd_service_up, "clock", systemd.clock)
    with patch_module_args({"unit": UNIT, "watch": 0, **arguments}), pytest.raises(SystemExit):
        systemd_service_up.main()
    return json.loads(capsys.readouterr().out)


def test_the_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    systemd = FakeSystemd(known=False)
    predicted = play({"_ansible_check_mode": True, "_ansible_diff": True}, systemd, monkeypatch, capsys)
    assert predicted["changed"]
    assert predicted["diff"]["after"] == "active: active\nenabled: enabled\n"
    done = play({}, systemd, monkeypatch, capsys)
    assert predicted["steps"] == done["steps"]
    assert (done["active"], done["at_boot"], done["main_pid"]) == (True, True, 7)
    assert not play({}, systemd, monkeypatch, capsys)["changed"]
    assert play({"state": "stopped"}, systemd, monkeypatch, capsys)["steps"] == [f"stop {UNIT}", f"disable {UNIT} at boot"]
    assert not play({"state": "stopped"}, systemd, monkeypatch, capsys)["changed"]


def test_a_host_without_systemd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    systemd = FakeSystemd()
    monkeypatch.setattr(systemd, "run", lambda _argv: Result(127, "", "no such file"))
    assert "does not run systemd" in play({}, systemd, monkeypatch, capsys)["msg"]


def test_words() -> None:
    assert describe({"ActiveState": "failed", "SubState": "failed", "Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "9"}) == (
        "failed (failed), result signal, killed by signal 9")
    assert at_boot({"UnitFileState": "static"})
    assert not is_up({"ActiveState": "deactivating"})
