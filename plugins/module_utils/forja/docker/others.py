# SPDX-License-Identifier: Apache-2.0
"""Find engines that are not packages of apt's, beside which the role installs none."""

from typing import List

from ..host.files import HostFiles

# Docker Desktop shares this folder with every distribution; only links into it say that it serves this one (docs.docker.com, "WSL").
DESKTOP = "/mnt/wsl/docker-desktop/"
DESKTOP_LINKS = ("/usr/bin/docker", "/usr/local/bin/docker", "/run/docker.sock")


def other_engines(files: HostFiles) -> List[str]:
    """Return one sentence for each engine: what was found, and what to do about it."""
    found = []
    link = next((path for path in DESKTOP_LINKS if (files.link(path) or "").startswith(DESKTOP)), None)
    if link:
        found.append(
            f"Docker Desktop serves this WSL distribution ({link} is a link into {DESKTOP.rstrip('/')}). To have an engine of its own, "
            "switch the distribution off in Docker Desktop under Settings, Resources, WSL integration, and run `wsl --shutdown` in Windows."
        )
    if files.exists("/snap/docker/current") or any(
        name.startswith("docker_") and name.endswith(".snap") for name in files.names("/var/lib/snapd/snaps")
    ):
        found.append(
            "Docker is installed as a snap, whose containers cannot reach every folder and every GPU. Save what its volumes hold, then "
            "run `snap remove docker`."
        )
    return found
