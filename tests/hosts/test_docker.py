# SPDX-License-Identifier: Apache-2.0
"""What a host with the Docker engine must be able to do, asked of the engine and the files."""

import json
import re
from typing import Any

import pytest

pytestmark = [pytest.mark.role("docker"), pytest.mark.journal("docker.service")]

# The key with which Docker signs, where the inventory names no other.
DOCKERS_KEY = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"


@pytest.fixture
def daemon(host: Any) -> dict[str, Any]:
    """The settings of daemon.json; no file means none."""
    file = host.file("/etc/docker/daemon.json")
    settings: dict[str, Any] = json.loads(file.content_string) if file.exists else {}
    return settings


@pytest.fixture
def info(host: Any) -> dict[str, Any]:
    """What the engine says of itself."""
    answer: dict[str, Any] = json.loads(host.check_output("docker info --format '{{json .}}'"))
    return answer


@pytest.fixture
def settings(variables: dict[str, Any]) -> dict[str, Any]:
    """What the inventory sets, without the keys that it removes."""
    return {key: value for key, value in (variables.get("docker_daemon_settings") or {}).items() if value is not None}


def test_engine_runs_and_starts_at_boot(host: Any) -> None:
    service = host.service("docker")
    assert service.is_running
    assert service.is_enabled


def test_a_container_runs(host: Any, variables: dict[str, Any]) -> None:
    registry = variables.get("forja_registry")
    image = f"{registry}/forja/hello:1" if registry else "hello-world"
    assert "Hello" in host.check_output("docker run --rm %s", image)


def test_the_engine_works_with_its_settings(info: dict[str, Any], daemon: dict[str, Any]) -> None:
    """What a flag of docker.service sets is not in the file."""
    assert {"live-restore": info["LiveRestoreEnabled"], "log-driver": info["LoggingDriver"]}.items() >= {
        key: daemon[key] for key in ("live-restore", "log-driver") if key in daemon
    }.items()
    if "data-root" in daemon:
        assert info["DockerRootDir"].startswith(daemon["data-root"].rstrip("/"))


def test_the_settings_are_in_daemon_json(daemon: dict[str, Any], settings: dict[str, Any], variables: dict[str, Any]) -> None:
    plain = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    assert {key: daemon.get(key) for key in plain} == plain
    objects = {key: value for key, value in settings.items() if isinstance(value, dict)}
    assert [key for key, value in objects.items() if not value.items() <= daemon.get(key, {}).items()] == []
    if (registry := variables.get("forja_registry")) and "registry-mirrors" not in settings:
        assert f"https://{registry}" in daemon["registry-mirrors"]


def test_logs_of_containers_are_rotated_where_they_are_files(info: dict[str, Any], daemon: dict[str, Any]) -> None:
    if info["LoggingDriver"] == "json-file":
        assert daemon["log-opts"].get("max-size"), "the engine rotates no logs; set log-opts.max-size"


def test_no_interrupted_run_is_left(host: Any) -> None:
    names = host.file("/etc/docker").listdir() if host.file("/etc/docker").exists else []
    assert [name for name in names if "forja" in name] == []


def test_the_engine_lives_with_its_settings(host: Any) -> None:
    """What the engine runs with is what the file says now, so nothing waits for a restart."""
    file = host.file("/etc/docker/daemon.json")
    written = file.mtime.timestamp() if file.exists else 0
    started = float(host.check_output("stat --format=%Y /run/docker.pid"))
    assert started >= written - 1


def test_users_may_use_the_engine(host: Any, variables: dict[str, Any]) -> None:
    socket = host.file("/run/docker.sock")
    assert (socket.group, socket.mode) == ("docker", 0o660)
    users = variables.get("docker_users") or []
    names = [users] if isinstance(users, str) else users
    assert {name for name in names if "docker" not in host.user(name).groups} == set()


def test_packages_come_from_the_source_that_the_inventory_names(host: Any, variables: dict[str, Any]) -> None:
    ours = variables.get("docker_source", "distribution") == "docker"
    assert (host.package("docker-ce").is_installed, host.package("docker.io").is_installed) == (ours, not ours)
    assert host.file("/etc/apt/sources.list.d/docker.sources").exists <= ours


def test_apt_trusts_the_repository_by_the_right_key(host: Any, variables: dict[str, Any]) -> None:
    if variables.get("docker_source", "distribution") != "docker":
        pytest.skip("for hosts with Docker's own packages")
    address = variables.get("docker_apt_url", "download.docker.com").rpartition("//")[2].rstrip("/")
    places = host.check_output(
        "grep -rlEi --include=*.list --include=*.sources %s /etc/apt", rf"^ *(deb |uris:).*{re.escape(address)}"
    )
    assert len(places.split()) == 1, f"the repository has several entries: {places.split()}"
    content = host.file(places).content_string
    signed_by = re.search(r"signed-by[:=]\s*([^\s\]]+)", content, re.IGNORECASE)
    assert signed_by, f"{places} names no key"
    keys = host.check_output("gpg --show-keys --with-colons %s 2>/dev/null || true", signed_by[1])
    accepted = variables.get("docker_apt_key_fingerprint", DOCKERS_KEY)
    if keys:  # gpg is not on every host
        found = re.findall(r"^pub:.*\n(?:.*\n)*?fpr:+(\w+):", keys, re.MULTILINE)
        assert set(found) <= {text.replace(" ", "").upper() for text in ([accepted] if isinstance(accepted, str) else accepted)}
    host.run_expect([0], "apt-cache policy docker-ce | grep --fixed-strings %s", address)
