"""Docker: settings that cannot be read or would not start lose nothing and leave the engine running; others' decisions are kept."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Lab, without_mirror

HOST = "ws13"
pytestmark = pytest.mark.host(name=HOST)
DAEMON = "/etc/docker/daemon.json"
SOURCE = "/etc/apt/sources.list.d/docker.sources"
DROPIN = "/etc/systemd/system/docker.service.d"
# Nothing of these may have run where a validation refuses.
FIRST_CHANGE = "Configure the repository"


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_to_do(lab: Lab) -> Iterator[None]:
    yield
    assert "changed=0" in lab.passes(lab.role("docker"))


@pytest.fixture(autouse=True)
def _engine_survives(lab: Lab) -> Iterator[None]:
    """Each test ends with the engine answering, its container running, and the files as they were."""
    files = f"{DAEMON} {SOURCE}"
    lab.on(f"rm -rf /root/kept && mkdir /root/kept && cp -a {files} /root/kept")
    lab.on("docker rm -f lodger >/dev/null 2>&1; docker run -d --name lodger mirror.forja.test:5000/forja/hello:1 sleep 3600 >/dev/null")
    started = lab.on("cat /run/docker.pid")
    yield
    assert lab.on("docker inspect lodger --format '{{.State.Running}}'") == "true", "a container died on the way"
    lab.on(f"docker rm -f lodger >/dev/null; cp -a /root/kept/daemon.json {DAEMON}; cp -a /root/kept/docker.sources {SOURCE}")
    if lab.on("cat /run/docker.pid") != started:  # with other settings, which it is to forget
        lab.on(f"rm -rf {DROPIN}; systemctl daemon-reload; systemctl reset-failed docker.service; systemctl restart docker.service")


def daemon(lab: Lab) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(lab.on(f"cat {DAEMON}"))
    return settings


@pytest.mark.parametrize(("content", "reason"), [
    ('{"log-driver": "json-file",}', "line 1"),
    ('{"debug": false} // ours', "JSON has no comments"),
    ('{"log-opts": {"max-size": "1m"}, "log-opts": {"tag": "x"}}', "the key log-opts occurs twice"),
])
def test_invalid_file_is_kept_and_refused_before_any_change(lab: Lab, content: str, reason: str) -> None:
    lab.on(f"printf '%s' '{content}' > {DAEMON}")
    output = lab.fails(lab.role("docker", check=reason == "line 1"))
    assert DAEMON in output
    assert reason in output
    assert FIRST_CHANGE not in output
    assert lab.on(f"cat {DAEMON}") == content


@pytest.mark.parametrize(("settings", "reason"), [
    ({"no-such-setting": True}, "no-such-setting"),  # dockerd --validate knows
    ({"log-driver": "json-file", "log-opts": {"gelf-address": "udp://192.0.2.1:1"}}, "gelf-address, which the log driver json-file"),
])
def test_setting_that_the_engine_refuses(lab: Lab, settings: dict[str, Any], reason: str) -> None:
    before = lab.on(f"cat {DAEMON}")
    for check in (True, False):
        output = lab.fails(lab.role("docker", check=check, docker_daemon_settings=settings))
        assert reason in output
        assert FIRST_CHANGE not in output
    assert lab.on(f"cat {DAEMON}") == before


def test_engine_that_does_not_start_gets_its_file_back(lab: Lab) -> None:
    """dockerd --validate accepts a folder that cannot be made."""
    before = lab.on(f"cat {DAEMON}; systemctl reset-failed docker.service")
    output = lab.fails(lab.role("docker", docker_daemon_settings={"exec-root": "/proc/no/such"}))
    assert "The previous file is back and the engine" in output
    assert lab.on(f"cat {DAEMON}") == before
    assert lab.on("docker version --format '{{.Server.Version}}'")


def test_settings_of_others_stay(lab: Lab) -> None:
    """A person's labels, log driver, its options and mirrors; ours are neither added to them nor put in their place."""
    own = {"labels": ["somebody=else"], "log-driver": "syslog", "log-opts": {"syslog-address": "udp://127.0.0.1:514", "tag": "x"},
           "registry-mirrors": ["https://own.example"]}
    lab.on(f"echo '{json.dumps(own)}' > {DAEMON}")
    output = lab.passes(lab.role("docker", docker_daemon_settings={"max-concurrent-downloads": 2}))
    after = daemon(lab)
    assert {key: after[key] for key in ("labels", "log-driver", "log-opts", "max-concurrent-downloads")} == {
        "labels": own["labels"], "log-driver": own["log-driver"], "log-opts": own["log-opts"], "max-concurrent-downloads": 2}
    assert after["registry-mirrors"] == ["https://own.example", "https://mirror.forja.test:5000"]
    assert lab.on("docker info --format '{{.LoggingDriver}}'") == "syslog"
    assert "logs by syslog" in output


def test_flags_of_a_drop_in_are_kept_and_named(lab: Lab) -> None:
    command = lab.on("systemctl cat docker.service | sed -n 's/^ExecStart=//p'")
    lab.on(f"mkdir -p {DROPIN}; printf '[Service]\\nExecStart=\\nExecStart=%s --log-driver=journald\\n' '{command}' > {DROPIN}/own.conf; "
           "systemctl daemon-reload; systemctl reset-failed docker.service")
    output = lab.passes(lab.role("docker"))
    assert "log-driver" not in daemon(lab)
    assert "logs by journald" in output
    assert "docker.service sets --log-driver journald" in output
    assert "log-driver" in lab.fails(lab.role("docker", docker_daemon_settings={"log-driver": "json-file"}))


def test_an_equivalent_entry_of_another_role_is_accepted(lab: Lab) -> None:
    """Else two roles on one host would each change the file in every run."""
    theirs = lab.on(f"grep -v '^#' {SOURCE} | sort -r")
    lab.on(f"printf 'X-Repolib-Name: docker\\n%s\\n' '{theirs}' > {SOURCE}")
    assert "changed=0" in lab.passes(lab.role("docker"))
    assert "X-Repolib-Name" in lab.on(f"cat {SOURCE}")


def test_users_that_do_not_exist_and_one_that_does(lab: Lab) -> None:
    output = lab.fails(lab.role("docker", check=True, docker_users=["nobody-here"]))
    assert "nobody-here" in output
    assert FIRST_CHANGE not in output
    assert "changed=0" in lab.passes(lab.role("docker", docker_users="admin"))


@pytest.mark.deep
def test_absent_with_its_data_and_back(lab: Lab) -> None:
    """The data is where the engine keeps it, other files in that folder are not the engine's, and the mount point stays."""
    moved: dict[str, Any] = {"docker_daemon_settings": {"data-root": "/srv/docker"}}
    lab.on("mkdir -p /srv/docker && mount -t tmpfs tmpfs /srv/docker && echo x > /srv/docker/photo")
    assert "while 1 containers run" in lab.fails(lab.role("docker", **moved))
    lab.on("docker rm -f lodger")
    assert "data in /srv/docker" in lab.passes(lab.role("docker", **moved))
    lab.passes(lab.role("docker", docker_state="absent", docker_purge_data=True, **moved))
    assert lab.on("ls -A /srv/docker; findmnt -no FSTYPE /srv/docker").split() == ["photo", "tmpfs"]
    assert lab.on(f"ls {DAEMON} {SOURCE} 2>/dev/null", check=False) == ""
    lab.on("umount /srv/docker && rmdir /srv/docker")
    assert "changed=0" in lab.passes(lab.role("docker", docker_state="absent", docker_purge_data=True, **moved))
    # A host without an engine: --check predicts all of it, the start of a unit that systemd does not know yet included.
    assert "changed=4" in lab.passes(lab.role("docker", check=True)), "repository, packages, settings, service"
    # Cut off from the mirror, then killed among the packages: each time the next run goes on.
    with without_mirror(lab):
        assert "mirror.forja.test" in lab.fails(lab.role("docker"))
    lab.kill_when(lab.role("docker"), lambda: lab.on("pgrep -x dpkg", check=False) != "")
    lab.on("pkill -KILL -x apt-get; pkill -KILL -x dpkg; true")
    lab.passes(lab.role("docker"))
    assert "changed=0" in lab.passes(lab.role("docker"))
    lab.on("docker run -d --name lodger mirror.forja.test:5000/forja/hello:1 sleep 3600 >/dev/null")
