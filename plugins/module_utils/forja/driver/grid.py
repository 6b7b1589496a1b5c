# SPDX-License-Identifier: Apache-2.0
"""Microsoft's GRID build of the driver: a .run file, its kernel module for every kernel, and the settings of its licence."""

from typing import List, NamedTuple, Optional, Sequence

from ..host import atomic
from ..host.errors import ForjaError
from ..host.files import HostFiles
from ..host.run import Run
from . import dkms
from . import package_names as names

UNINSTALLER = "/usr/bin/nvidia-uninstall"
CACHE, CACHED = "/var/cache", "forja-nvidia-grid-"
GRIDD, TEMPLATE = "/etc/nvidia/gridd.conf", "/etc/nvidia/gridd.conf.template"
LOG = "/var/log/nvidia-installer.log"
# Azure asks for these, and sets FeatureType itself.
SETTINGS = {"IgnoreSP": "FALSE", "EnableUI": "FALSE"}
LOG_LINES = 5
MODULE_TYPE = 560  # the branch from which on the installer has --kernel-module-type and --skip-module-load


class Request(NamedTuple):
    version: str  # empty: no driver of a .run file
    flavour: str = "open"
    kernels: Sequence[str] = ()
    nouveau: bool = False  # whether nouveau drives GPUs now


class State(NamedTuple):
    library: bool  # whether the libraries of the version are there
    installers: List[str]  # what lies in the cache; while it does, an installation counts as interrupted
    uninstaller: bool
    settings: Optional[str]  # content of gridd.conf, else of its template
    configured: bool  # whether gridd.conf itself is there
    modules: List[dkms.Source]


def installer(version: str) -> str:
    return f"{CACHE}/{CACHED}{version}.run"


def installed(files: HostFiles, version: Optional[str], machine: str) -> bool:
    """Return whether the installer ran to its end: then its file is gone. `machine` is that of the kernel, as x86_64."""
    return files.exists(f"/usr/lib/{machine}-linux-gnu/libnvidia-ml.so.{version}") and not files.exists(installer(version or ""))


def gather(files: HostFiles, version: str, machine: str) -> State:
    cached = [f"{CACHE}/{name}" for name in files.names(CACHE) if name.startswith(CACHED)]
    return State(bool(version) and files.exists(f"/usr/lib/{machine}-linux-gnu/libnvidia-ml.so.{version}"), cached,
                 files.exists(UNINSTALLER), files.text(GRIDD, 1 << 20) or files.text(TEMPLATE, 1 << 20), files.exists(GRIDD),
                 dkms.gather(files, names.DKMS))


def settings(text: str) -> str:
    """Return gridd.conf with what Azure asks for; the host's other settings stay."""
    lines, missing = [], dict(SETTINGS)
    for line in text.splitlines():
        key = line.lstrip("#").partition("=")[0]
        if line.startswith("FeatureType="):
            continue
        if key in SETTINGS:
            if missing.pop(key, None):
                lines.append(f"{key}={SETTINGS[key]}")
            continue
        lines.append(line)
    return "\n".join(lines + [f"{key}={value}" for key, value in missing.items()]) + "\n"


def plan(state: State, request: Request) -> List[str]:
    if not request.version:
        return ["run nvidia-uninstall"] * state.uninstaller + ["remove " + path for path in state.installers]
    steps = []
    if not state.library or installer(request.version) in state.installers:
        steps.append("run Microsoft's installer")
    steps += dkms.steps(dkms.plan(state.modules, list(request.kernels)))
    # In check mode, before the installer brought its template, there is no text yet.
    if not state.configured or settings(state.settings or "") != state.settings:
        steps.append("write " + GRIDD)
    return steps


def command(request: Request) -> List[str]:
    """Return the command that runs the installer, for the branch's options."""
    new = int(request.version.split(".")[0]) >= MODULE_TYPE
    kind = f"--kernel-module-type={request.flavour}" if new else f"-m=kernel{'-open' if request.flavour == 'open' else ''}"
    # It aborts where nouveau is in use, and reverts everything where the module cannot be loaded beside it. nouveau goes at the reboot.
    beside = (["--no-nouveau-check"] + ["--skip-module-load"] * new) if request.nouveau else []
    return ["sh", installer(request.version), "--silent", "--dkms", kind] + beside


def apply(run: Run, files: HostFiles, steps: Sequence[str], request: Request, machine: str) -> None:
    """Carry the plan out. Where the installer or its build fails, what came of it is removed before ForjaError is raised."""
    if not request.version:
        remove(run, files)
        return
    install = "run Microsoft's installer" in steps
    try:
        if install:
            _run_installer(run, files, request)
        modules = dkms.gather(files, names.DKMS)
        if request.kernels and not modules:
            raise ForjaError("DKMS has no module of NVIDIA's after Microsoft's installer.")
        dkms.apply(run, files, dkms.plan(modules, list(request.kernels)))
    except ForjaError:
        if install:  # a release that was there before keeps driving the kernels that it fits
            remove(run, files)
        raise
    atomic.replace(installer(request.version), None)
    state = gather(files, request.version, machine)
    atomic.replace(GRIDD, settings(state.settings or "").encode())


def _run_installer(run: Run, files: HostFiles, request: Request) -> None:
    rc, out, err = run(command(request))
    if rc != 0:
        errors = [line for line in (files.text(LOG, 1 << 20) or "").splitlines() if "ERROR" in line][-LOG_LINES:]
        raise ForjaError("\n".join([f"Microsoft's installer failed: {(err or out).strip()}", *errors, f"Its log is {LOG}."]))


def remove(run: Run, files: HostFiles) -> None:
    if files.exists(UNINSTALLER):
        rc, out, err = run([UNINSTALLER, "--silent"])
        if rc != 0:
            raise ForjaError(f"nvidia-uninstall failed: {(err or out).strip()}")
    for name in files.names(CACHE):
        if name.startswith(CACHED):
            atomic.replace(f"{CACHE}/{name}", None)
