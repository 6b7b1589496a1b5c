# SPDX-License-Identifier: Apache-2.0
"""Container Device Interface (CDI) specifications of NVIDIA GPUs: read them, plan what makes exactly one that fits the loaded driver.

A specification names device nodes and the driver's libraries with their version. An engine refuses a device that two files of one folder
name, and takes that of the later folder; a file of an older driver starts containers whose CUDA fails (nvidia-container-toolkit issues 1611
and 1982, moby 51942).
Files are read by patterns and not parsed: they may be YAML, for which hosts have no library, and nvidia-ctk writes one key a line.
Source: nvidia-container-toolkit 1.18 and newer, nvidia-cdi-refresh.service; CDI specification, sections 2 and 4.
"""

import re
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from ..host.errors import ForjaError
from ..host.files import HostFiles
from ..host.run import Run

KIND = "nvidia.com/gpu"
# The folders that engines read, the later one wins; /var/run is a link to /run, which is empty after a boot.
FOLDERS = ("/etc/cdi", "/var/run/cdi")
GENERATED = "/var/run/cdi/nvidia.yaml"
UNIT = "nvidia-cdi-refresh.service"
SET_ASIDE = ".replaced-by-forja"  # engines read .yaml and .json only
REMOVE, REFRESH = "set aside", "refresh"
_KIND = re.compile(r"""^\s*"?kind"?\s*:\s*"?([\w./-]+)"?""", re.M)
_NAME = re.compile(r"""^\s*(?:-\s+)?"?name"?\s*:\s*"?([\w:.-]+)"?""", re.M)
_NODE = re.compile(r"""(?:"|\s)path"?\s*:\s*"?(/dev/[\w./-]+)"?""")
_LIBRARY = re.compile(r"lib(?:cuda|nvidia-ml)\.so\.(\d{3}\.[\d.]*\d)")


class Spec(NamedTuple):
    """One file: the devices that it names, the driver version of its libraries, device nodes of it that the host lacks."""

    path: str
    devices: Tuple[str, ...]
    driver: Optional[str]
    missing: Tuple[str, ...]


class State(NamedTuple):
    specs: Tuple[Spec, ...]
    unit: bool  # whether the toolkit's own refresh unit is installed


class Step(NamedTuple):
    action: str
    path: str
    reason: str

    def describe(self) -> str:
        return f"{self.action} {self.path}: {self.reason}"


def read_spec(path: str, text: str, exists: Callable[[str], bool]) -> Optional[Spec]:
    """Read one file; None where it is of another kind of device."""
    kind = _KIND.search(text)
    if kind is None or kind.group(1) != KIND:
        return None
    drivers = sorted(set(_LIBRARY.findall(text)))
    nodes = sorted(set(_NODE.findall(text)))
    return Spec(path, tuple(dict.fromkeys(_NAME.findall(text))), drivers[-1] if drivers else None,
                tuple(node for node in nodes if not exists(node)))


def gather(files: HostFiles) -> State:
    specs = []
    for folder in FOLDERS:
        for name in files.names(folder):
            text = files.text(f"{folder}/{name}", 1 << 20) if name.endswith((".yaml", ".json")) else None
            spec = read_spec(f"{folder}/{name}", text, files.exists) if text else None
            if spec:
                specs.append(spec)
    unit = any(files.exists(f"{folder}/{UNIT}") for folder in ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"))
    return State(tuple(specs), unit)


def plan(state: State, driver: Optional[str], devices: Optional[Sequence[str]] = None) -> List[Step]:
    """Plan the steps to one specification of the loaded driver version `driver`.

    `devices`, where given, are names that must be in it, such as those of MIG devices. Without a loaded driver nothing is planned:
    the refresh unit runs at the boot that loads one.
    """
    steps = [Step(REMOVE, spec.path, f"{GENERATED} is for the same GPUs; an engine refuses a device that two files name, or takes either")
             for spec in state.specs if spec.path != GENERATED]
    if not driver:
        return steps
    generated = next((spec for spec in state.specs if spec.path == GENERATED), None)
    reason = _stale(generated, driver, devices)
    return steps + [Step(REFRESH, GENERATED, reason)] if reason else steps


def _stale(spec: Optional[Spec], driver: str, devices: Optional[Sequence[str]]) -> str:
    """Say why the generated file must be written again; empty where it fits."""
    if spec is None:
        return "there is none"
    if spec.driver and spec.driver != driver:
        return f"it is of driver {spec.driver}, and {driver} is loaded"
    if spec.missing:
        return f"it names {', '.join(spec.missing)}, which this host does not have"
    absent = [name for name in devices or [] if name not in spec.devices]
    return f"it lacks {', '.join(absent)}" if absent else ""


def apply(run: Run, rename: Callable[[str, str], None], state: State, steps: Sequence[Step]) -> None:
    for step in steps:
        if step.action == REMOVE:
            rename(step.path, step.path + SET_ASIDE)
        elif not state.unit:
            raise ForjaError(f"{UNIT} is not installed. NVIDIA Container Toolkit 1.18 and newer have it: upgrade "
                             "nvidia-container-toolkit-base.")
        else:
            _refresh(run)


def _refresh(run: Run) -> None:
    """Run NVIDIA's unit, which systemd refuses after five starts in ten seconds, and skips where a condition does not hold."""
    run(["systemctl", "reset-failed", UNIT])
    result = run(["systemctl", "restart", UNIT])
    if result.rc != 0:
        journal = run(["journalctl", f"--unit={UNIT}", "--lines=15", "--no-pager", "--output=cat"]).out.strip()
        raise ForjaError(f"{UNIT} failed: {result.err.strip()} Last lines of its journal:\n{journal}")
    properties = run(["systemctl", "show", "--property=ConditionResult,Result", UNIT]).out.split()
    if "ConditionResult=no" in properties or "Result=exec-condition" in properties:
        raise ForjaError(f"systemd skipped {UNIT}, because a condition in its unit file does not hold (`systemctl cat {UNIT}`). It "
                         "expects nvidia-smi, and the module nvidia in modules.dep of the running kernel. Install the driver's package "
                         "with nvidia-smi, or run `depmod`.")
