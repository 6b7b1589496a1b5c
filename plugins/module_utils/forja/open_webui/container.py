# SPDX-License-Identifier: Apache-2.0
"""Read and move the container of Open WebUI with Docker's command line."""

import json
from typing import Any, Dict, List, NamedTuple

from ..host.errors import ForjaError
from ..host.run import Run

LOG_LINES = 25


class Container(NamedTuple):
    """A container as the engine describes it; `image` is the reference it was created from. Empty fields where there is none."""

    exists: bool = False
    running: bool = False
    status: str = ""
    image: str = ""
    address: str = ""
    restarts: int = 0
    exit_code: int = 0
    version: str = ""


def read_container(text: str) -> Container:
    """Parse what `docker inspect` prints for one container."""
    try:
        data: Dict[str, Any] = json.loads(text)[0]
    except (ValueError, IndexError, KeyError):
        return Container()
    state, config = data.get("State") or {}, data.get("Config") or {}
    networks = (data.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = [str(network.get("IPAddress") or "") for network in networks.values()]
    labels = config.get("Labels") or {}
    return Container(
        True, bool(state.get("Running")) and not state.get("Restarting"), str(state.get("Status", "")), str(config.get("Image", "")),
        next((address for address in addresses if address), ""), int(data.get("RestartCount") or 0), int(state.get("ExitCode") or 0),
        str(labels.get("org.opencontainers.image.version") or ""),
    )


class Docker:
    """The command line of the engine."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def server(self) -> Dict[str, Any]:
        """Return version and data folder of the engine, an empty object where it does not answer."""
        rc, out, _ = self.run(["docker", "info", "--format", "{{json .}}"])
        try:
            data = json.loads(out) if rc == 0 else {}
        except ValueError:
            data = {}
        return data if isinstance(data, dict) and data.get("ServerVersion") else {}

    def container(self, name: str) -> Container:
        rc, out, _ = self.run(["docker", "container", "inspect", name])
        return read_container(out) if rc == 0 else Container()

    def volume_folder(self, name: str) -> str:
        """Return the folder of a local volume, empty where there is no such volume."""
        rc, out, _ = self.run(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", name])
        return out.strip() if rc == 0 else ""

    def has_image(self, reference: str) -> bool:
        return self.run(["docker", "image", "inspect", "--format", "{{.Id}}", reference]).rc == 0

    def digest(self, reference: str) -> str:
        """Return the registry's digest of an image on this host, empty where it has none."""
        rc, out, _ = self.run(["docker", "image", "inspect", "--format", "{{join .RepoDigests \"\\n\"}}", reference])
        return out.strip().split("\n")[0].rpartition("@")[2] if rc == 0 else ""

    def logs(self, name: str, lines: int = LOG_LINES) -> str:
        rc, out, err = self.run(["docker", "logs", "--tail", str(lines), name])
        return (out + err).strip() if rc == 0 else ""

    def python(self, name: str, code: str) -> str:
        """Run a program of Python's in the container and return what it prints; ForjaError where it fails."""
        rc, out, err = self.run(["docker", "exec", name, "python3", "-c", code])
        if rc != 0:
            raise ForjaError(f"Python in the container {name} failed: {(err or out).strip().splitlines()[-1:] or rc}")
        return out.strip()

    def do(self, *arguments: str) -> None:
        rc, out, err = self.run(["docker", *arguments])
        if rc != 0:
            raise ForjaError(f"docker {' '.join(arguments)} failed: {(err or out).strip()}")


def describe(container: Container) -> str:
    if not container.exists:
        return "no container"
    ended = f", exit code {container.exit_code}" if not container.running else ""
    return f"{container.status}{ended}{f', restarted {container.restarts} times' if container.restarts else ''}"


def references(image: str, digest: str, tag: str) -> List[str]:
    """Return the reference to run, first, and the one to show: by digest where there is one."""
    return [f"{image}@{digest}" if digest else f"{image}:{tag}", f"{image}:{tag}"]
