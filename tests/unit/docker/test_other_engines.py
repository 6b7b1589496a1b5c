# SPDX-License-Identifier: Apache-2.0
"""Engines beside which the role docker installs none."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.module_utils.forja.docker.others import other_engines
from plugins.module_utils.forja.host.files import HostFiles


@pytest.mark.parametrize("place", ["usr/bin/docker", "usr/local/bin/docker", "run/docker.sock"])
def test_docker_desktop_is_known_by_its_links(tmp_path: Path, place: str) -> None:
    link = tmp_path / place
    link.parent.mkdir(parents=True)
    link.symlink_to("/mnt/wsl/docker-desktop/cli-tools/usr/bin/docker")
    sentence, = other_engines(HostFiles(str(tmp_path)))
    assert f"/{place} is a link into /mnt/wsl/docker-desktop" in sentence
    assert "WSL integration" in sentence


def test_docker_desktop_that_serves_only_others_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "mnt/wsl/docker-desktop/cli-tools").mkdir(parents=True)
    assert other_engines(HostFiles(str(tmp_path))) == []


@pytest.mark.parametrize("place", ["snap/docker/current", "var/lib/snapd/snaps/docker_2963.snap"])
def test_snap_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    sentence, = other_engines(HostFiles(str(tmp_path)))
    assert "snap remove docker" in sentence


def test_other_snaps_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "var/lib/snapd/snaps/docker-compose_1.snap").mkdir(parents=True)
    assert other_engines(HostFiles(str(tmp_path))) == []
