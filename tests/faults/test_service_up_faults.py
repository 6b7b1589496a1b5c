"""systemd_service_up against a real systemd: what crashes, hangs or is missing fails at once and says why."""

import json
import shlex
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Lab

HOST = "ws13"
pytestmark = pytest.mark.host(name=HOST)
UNIT = "forja-demo.service"
PATH = f"/etc/systemd/system/{UNIT}"


@pytest.fixture(autouse=True)
def clean(lab: Lab) -> Iterator[None]:
    yield
    lab.on(f"systemctl disable --now {UNIT}; rm -rf {PATH} {PATH}.d; systemctl daemon-reload; systemctl reset-failed {UNIT}; true",
           check=False)


def install(lab: Lab, **service: str) -> None:
    lines = ["[Unit]", "StartLimitIntervalSec=0", "[Service]", *(f"{key}={value}" for key, value in service.items()), "[Install]",
             "WantedBy=multi-user.target"]
    lab.on(f"printf '%s\\n' {' '.join(map(shlex.quote, lines))} > {PATH}")


def up(lab: Lab, *, check: bool = False, **options: Any) -> dict[str, Any]:
    """The result of the module, which says by `failed` whether it did."""
    run = lab.start("ansible", lab.name, "--become", "--module-name=systemd_service_up", "--one-line",
                    f"--args={json.dumps({'unit': UNIT, **options})}", *(["--check"] if check else []))
    output, _ = run.communicate(timeout=120)
    result: dict[str, Any] = json.loads(output[output.index("=> ") + 3:])
    return result


def test_its_life(lab: Lab) -> None:
    predicted = up(lab, check=True)
    assert predicted["steps"] == ["make systemd read its unit files again", f"enable {UNIT} at boot", f"start {UNIT}"]
    assert "is not installed" in up(lab)["msg"]
    install(lab, ExecStart="/usr/bin/python3 -m http.server --bind 127.0.0.1 8099")
    done = up(lab, port=8099)
    assert (done["active"], done["at_boot"]) == (True, True), done
    again = up(lab, url="http://127.0.0.1:8099/")
    assert not again["changed"]
    assert again["answer"]["status"] == 200
    restarted = up(lab, restart=True, url="http://127.0.0.1:8099/")
    assert restarted["steps"] == [f"restart {UNIT}"]
    assert restarted["main_pid"] != again["main_pid"]
    lab.on(f"touch {PATH}")
    assert up(lab, config_files=[PATH], port=8099)["steps"] == ["make systemd read its unit files again", f"restart {UNIT}"]
    assert not up(lab, config_files=[PATH], port=8099)["changed"]
    assert up(lab, state="stopped")["steps"] == [f"stop {UNIT}", f"disable {UNIT} at boot"]
    assert lab.on(f"systemctl is-active {UNIT}; systemctl is-enabled {UNIT}; true", check=False) == "inactive\ndisabled"


@pytest.mark.parametrize(("service", "said"), [
    ({"ExecStart": "/bin/sh -c 'echo no room; sleep 0.3; exit 3'", "Restart": "always", "RestartSec": "1"}, "exit status 3"),
    ({"ExecStart": "/bin/sh -c 'echo no room; exit 3'", "Type": "notify", "Restart": "on-failure", "RestartSec": "100ms"}, "exit status 3"),
    ({"ExecStart": "/usr/bin/python3 -c 'import os, time; print(\"no room\", flush=True); time.sleep(0.5); os.kill(os.getpid(), 9)'"},
     "killed by signal 9"),
    ({"ExecStartPre": "/bin/sh -c 'echo no room; exit 1'", "ExecStart": "/bin/sleep 60", "Restart": "always"}, "result exit-code"),
])
def test_a_crash_is_told_at_once(lab: Lab, service: dict[str, str], said: str) -> None:
    install(lab, **service)
    begin = time.monotonic()
    result = up(lab, port=8099, timeout=60)
    assert time.monotonic() - begin < 30, "the time-out has no part in this"
    assert said in result["msg"], result
    assert "no room" in result["msg"]


@pytest.mark.deep
def test_a_missing_program_or_folder_is_named(lab: Lab) -> None:
    install(lab, ExecStart="/bin/sleep 60", WorkingDirectory="/nowhere", Restart="always")
    assert "its working folder cannot be entered" in up(lab)["msg"]


def test_a_stranger_at_the_port(lab: Lab) -> None:
    install(lab, ExecStart="/bin/sleep 60")
    lab.on("systemd-run --unit=forja-stranger python3 -m http.server --bind 127.0.0.1 8099; sleep 1")
    try:
        assert "another program listens there" in up(lab, port=8099)["msg"]
    finally:
        lab.on("systemctl stop forja-stranger")


@pytest.mark.deep
def test_a_service_that_hangs_while_it_starts(lab: Lab) -> None:
    install(lab, ExecStart="/bin/sleep 60", Type="notify")
    assert "has not ended within 3 s" in up(lab, timeout=3)["msg"]
