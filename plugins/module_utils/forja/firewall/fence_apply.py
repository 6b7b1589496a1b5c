# SPDX-License-Identifier: Apache-2.0
"""Read a fence's file and its rules in the kernel, plan the steps to what is wanted, and apply them."""

import tempfile
from typing import Dict, List, NamedTuple, Optional

from ..host import atomic
from ..host.errors import ForjaError
from ..host.files import HostFiles
from ..host.run import NOT_FOUND, Run
from ..systemd.effective import listed, unit_files
from ..systemd.paths import Place
from .fence import Fence, chains, delete_table, kernel_chains, render

NFT = "/usr/sbin/nft"


class Host(NamedTuple):
    run: Run
    path: str  # the file of the rules


class State(NamedTuple):
    """`file` is the text of the rules, None where there is none. `kernel` is the table as nft prints it, None where there is none."""

    file: Optional[str]
    kernel: Optional[str]


class Step(NamedTuple):
    """One thing to do, and the sentence that says so."""

    action: str  # write, load, remove or delete
    text: str


def path_of(fence: Fence) -> str:
    return f"/etc/{fence.name}-fence.nft"


def local_interfaces(files: HostFiles) -> List[str]:
    """Return the interfaces besides lo on which this machine's own traffic arrives: loopback0 of WSL2's mirrored networking."""
    return ["loopback0"] if "microsoft" in (files.word("/proc/sys/kernel/osrelease") or "").lower() else []


def survives(place: Place, path: str) -> bool:
    """Whether nftables.service, which flushes all tables, loads the file again each time: when it starts, reloads and stops."""
    files = unit_files(place, "nftables.service", {})
    return all(any(setting.value == path for setting in listed(files, key)) for key in ("ExecStartPost", "ExecReload", "ExecStopPost"))


def gather(host: Host, fence: Fence) -> State:
    raw = atomic.read(host.path)
    listed = host.run([NFT, "list", "table", "inet", fence.table])
    return State(None if raw is None else raw.decode("utf-8", "replace"), listed.out if listed.rc == 0 else None)


def plan(state: State, fence: Fence, wanted: str) -> List[Step]:
    """Plan the steps to `wanted`: present, absent or restored."""
    table = f"table inet {fence.table}"
    if wanted == "restored":
        return restore(state, fence)
    if wanted == "absent":
        steps = [] if state.file is None else [Step("remove", f"remove the file of {table}")]
        return steps + ([] if state.kernel is None else [Step("delete", f"delete {table} from the kernel")])
    steps = [] if state.file == render(fence) else [Step("write", f"write the rules of {table}")]
    same = state.kernel is not None and kernel_chains(state.kernel) == chains(fence)
    return steps + ([] if same else [Step("load", f"load {table} into the kernel")])


def restore(state: State, fence: Fence) -> List[Step]:
    """Plan the way back: the kernel follows the file, whatever it holds."""
    table = f"table inet {fence.table}"
    if state.file is None:
        return [] if state.kernel is None else [Step("delete", f"delete {table} from the kernel")]
    wanted = kernel_chains(state.file.partition(" {\n")[2])
    same = state.kernel is not None and kernel_chains(state.kernel) == wanted
    return [] if same else [Step("load", f"load {table} into the kernel")]


def apply(host: Host, fence: Fence, state: State, steps: List[Step]) -> None:
    """Apply the steps. The new file is checked by nft before it replaces the old one."""
    for step in steps:
        if step.action == "write":
            _nft(host.run, ["-c"], render(fence))
            atomic.replace(host.path, render(fence).encode("utf-8"))
        elif step.action == "load":
            _nft(host.run, [], (atomic.read(host.path) or b"").decode("utf-8"))
        elif step.action == "remove":
            atomic.replace(host.path, None)
        elif step.action == "delete":
            _nft(host.run, [], delete_table(fence.table))


def diff(state: State, fence: Fence, wanted: str) -> List[Dict[str, str]]:
    """Return what --diff shows: the file, and the kernel's rules where they differ from it."""
    after = {"present": render(fence), "absent": ""}.get(wanted, state.file or "")
    path = path_of(fence)
    result = []
    if (state.file or "") != after:
        result.append({"before_header": path, "after_header": path, "before": state.file or "", "after": after})
    kernel = [rule for chain in kernel_chains(state.kernel or "") for rule in chain]
    rules = [rule for chain in chains(fence) for rule in chain] if wanted == "present" else []
    if wanted != "restored" and kernel != rules:
        header = f"table inet {fence.table} in the kernel"
        result.append({"before_header": header, "after_header": header, "before": "".join(f"{rule}\n" for rule in kernel),
                       "after": "".join(f"{rule}\n" for rule in rules)})
    return result


def _nft(run: Run, options: List[str], text: str) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="forja-fence-", suffix=".nft") as file:
        file.write(text)
        file.flush()
        result = run([NFT, *options, "-f", file.name])
    if result.rc == NOT_FOUND:
        raise ForjaError(f"{NFT} is not installed; install the package nftables.")
    if result.rc:
        raise ForjaError(f"nft refuses the rules: {(result.err or result.out).strip()}")
