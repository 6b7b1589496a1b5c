# SPDX-License-Identifier: Apache-2.0
"""What apt-get is asked, and how its answers are read. Shared by the modules that add repositories and packages."""

from typing import Callable

from ..host.errors import ForjaError
from ..host.run import Run

# Machines that just booted run apt themselves (unattended-upgrades, cloud-init): wait for them.
LOCK_SECONDS = 180
APT_GET = ["apt-get", "--quiet", "--assume-yes", "--option", f"DPkg::Lock::Timeout={LOCK_SECONDS}"]


def refresh(run: Run, sleep: Callable[[float], None], source: str = "") -> None:
    """apt-get update, of one file of sources only where `source` names it."""
    # Without Error-Mode=any an unreachable repository is a warning and the exit status 0.
    command = APT_GET + ["--option", "APT::Update::Error-Mode=any"]
    if source:
        # Who the repository is says its key, which was checked; not the label that it gives itself.
        command.append("--allow-releaseinfo-change")
        only = {"Dir::Etc::sourcelist": source, "Dir::Etc::sourceparts": "-", "APT::Get::List-Cleanup": "0"}
        for name, value in only.items():
            command += ["--option", f"{name}={value}"]
    # The lock of the lists is the one that DPkg::Lock::Timeout does not wait for.
    for _ in range(LOCK_SECONDS // 3):
        rc, out, err = run(command + ["update"])
        if rc == 0:
            return
        if "/lists/lock" not in err:
            break
        sleep(3)
    raise ForjaError(f"apt cannot refresh its lists: {complaints(out + err)}")


def architecture(run: Run) -> str:
    """Return the host's architecture as dpkg names it, such as amd64."""
    rc, out, err = run(["dpkg", "--print-architecture"])
    if rc != 0:
        raise ForjaError(f"dpkg does not tell the architecture of this host, which must be Debian or of its family: {err.strip()}")
    return out.strip()


def complaints(output: str) -> str:
    """Return apt's errors and warnings, with the dependencies that it cannot meet; all it said where it marked none."""
    found, unmet = [], False
    for line in output.splitlines():
        unmet = line.endswith("unmet dependencies:") or unmet and line[:1] == " "
        if line[:2] in ("E:", "W:") or unmet and line[:1] == " ":
            found.append(line.rstrip())
    return "\n".join(found) or output.strip()
