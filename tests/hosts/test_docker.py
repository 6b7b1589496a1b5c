# SPDX-License-Identifier: Apache-2.0
"""What a host with the Docker engine must be able to do, asked of the engine and the files."""

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.persona("workstation"), pytest.mark.journal("docker.service")]

# The key with which Docker signs, where the inventory names no other.
DOCKERS_KEY = "1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570"


@pytest.fixture
def daemon(host: Any) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(host.file("/etc/docker/daemon.json").content_string)
    return settings


def test_engine_runs_and_starts_at_boot(host: Any) -> None:
    service = host.service("docker")
    assert service.is_running
    assert service.is_enabled


def test_a_container_runs(host: Any, variables: dict[str, Any]) -> None:
    registry = variables.get("forja_registry")
    image = f"{registry}/forja/hello:1" if registry else "hello-world"
    assert "Hello" in host.check_output("docker run --rm %s", image)


def test_containers_outlive_the_engine_and_their_logs_are_rotated(host: Any, variables: dict[str, Any]) -> None:
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    wanted = variables.get("docker_daemon_settings", {})
    assert info["LiveRestoreEnabled"] is bool(wanted.get("live-restore", True))
    assert info["LoggingDriver"] == wanted.get("log-driver", "json-file")


def test_the_settings_are_in_daemon_json(daemon: dict[str, Any], variables: dict[str, Any]) -> None:
    wanted = {"live-restore": True, "log-driver": "json-file", **variables.get("docker_daemon_settings", {})}
    plain = {key: value for key, value in wanted.items() if not isinstance(value, dict)}
    assert {key: daemon.get(key) for key in plain} == plain
    if wanted["log-driver"] == "json-file":
        assert set(daemon["log-opts"]) >= {"max-size", "max-file"}
    if registry := variables.get("forja_registry"):
        assert f"https://{registry}" in daemon["registry-mirrors"]


def test_daemon_json_is_readable_and_no_draft_is_left(host: Any) -> None:
    assert host.file("/etc/docker/daemon.json").user == "root"
    assert [name for name in host.file("/etc/docker").listdir() if "forja" in name] == []


def test_the_engine_lives_with_its_settings(host: Any) -> None:
    """What the engine runs with is what the file says now, so nothing waits for a restart."""
    written = host.file("/etc/docker/daemon.json").mtime.timestamp()
    started = float(host.check_output("stat --format=%Y /run/docker.pid"))
    assert started >= written - 1


def test_users_may_use_the_engine(host: Any, variables: dict[str, Any]) -> None:
    socket = host.file("/run/docker.sock")
    assert (socket.group, socket.mode) == ("docker", 0o660)
    assert {name for name in variables.get("docker_users", []) if "docker" not in host.user(name).groups} == set()


def test_packages_come_from_one_source_that_apt_trusts(host: Any, variables: dict[str, Any]) -> None:
    source, key = host.file("/etc/apt/sources.list.d/docker.sources"), host.file("/etc/apt/keyrings/docker.asc")
    if not host.package("docker-ce").is_installed:
        assert host.package("docker.io").is_installed
        assert (source.exists, key.exists) == (False, False)
        return
    assert not host.package("docker.io").is_installed
    assert f"Signed-By: {key.path}" in source.content_string.splitlines()
    assert key.sha256sum == variables.get("docker_apt_key_sha256", DOCKERS_KEY)
    assert not host.file("/etc/apt/sources.list.d/docker.list").exists
    host.run_expect([0], "apt-cache policy docker-ce | grep --fixed-strings %s", "download.docker.com")
