# SPDX-License-Identifier: Apache-2.0
"""Give a host a Python with pynvml without touching its driver: from the distribution where that is possible, else one of our own."""

import os
import re
import shutil
import time
from typing import List, NamedTuple, Optional

from ..apt import packages as apt_packages
from ..host import atomic as atomic_file
from ..host.errors import ForjaError
from ..host.files import HostFiles
from ..host.run import Run
from .access import PRIVATE, interpreter_with_binding, private_interpreter

PACKAGE = "python3-pynvml"
BASE = "/usr/bin/python3"
# Written last: an environment without it, or with another text in it, is made anew.
STAMP = PRIVATE + "/forja-requirement.txt"
PYYAML = "/usr/lib/python3/dist-packages/yaml"
DISTRIBUTION, ENVIRONMENT, VENV, YAML, CLEAN = "distribution", "environment", "venv", "yaml", "clean"
_PACKAGES = {DISTRIBUTION: PACKAGE, VENV: "python3-venv", YAML: "python3-yaml"}
# Of these, none may come or go for the sake of the binding: they are the driver's, whose sources are not to be mixed.
_DRIVER = re.compile(r"(?:lib)?(?:nvidia|cuda|nvcuvid|nvoptix|glx-nvidia|xserver-xorg-video-nvidia)")


class State(NamedTuple):
    interpreter: Optional[str]  # that has pynvml
    private: Optional[str]  # the same of our own environment
    stamp: Optional[str]
    folder: bool  # whether our environment is there, in whatever state
    harmless: bool  # whether the distribution's package would come alone
    venv: bool  # whether the base Python can make environments
    yaml: bool  # whether the distribution's PyYAML is there, which our environment sees too


class Step(NamedTuple):
    action: str
    description: str


def gather(run: Run, files: HostFiles) -> State:
    interpreter, private = interpreter_with_binding(files), private_interpreter(files)
    state = State(interpreter, private, files.text(STAMP), files.exists(PRIVATE), False, True, files.exists(PYYAML))
    if interpreter and interpreter != private:
        return state
    return state._replace(harmless=_harmless(run, files), venv=run([BASE, "-c", "import ensurepip, venv"])[0] == 0)


def _harmless(run: Run, files: HostFiles) -> bool:
    if not files.exists("/usr/bin/apt-get"):
        return False
    rc, out, _err = run(["apt-get", "--simulate", "--no-install-recommends", "install", PACKAGE])
    return rc == 0 and comes_alone(out)


def comes_alone(simulated: str) -> bool:
    """Whether what apt would do leaves the driver's packages as they are: it installs none, and removes nothing."""
    found = re.findall(r"^(Inst|Remv) (\S+)", simulated, re.M)
    return bool(found) and all(action == "Inst" and not _DRIVER.match(name) for action, name in found)


def plan(state: State, requirement: str, wanted: bool, yaml: bool = False) -> List[Step]:
    if not wanted:
        return [Step(CLEAN, "remove " + PRIVATE)] if state.folder else []
    actions = [] if state.yaml or not yaml else [YAML]
    foreign = state.interpreter and state.interpreter != state.private
    if not foreign and not (state.private and state.stamp == requirement):
        if state.harmless and not state.folder:
            actions.append(DISTRIBUTION)
        else:
            actions += [ENVIRONMENT] if state.venv else [VENV, ENVIRONMENT]
    made = f"make {PRIVATE} with {requirement.split()[0]}"
    return [Step(action, made if action == ENVIRONMENT else "install " + _PACKAGES[action]) for action in actions]


def apply(run: Run, steps: List[Step], requirement: str) -> None:
    for step in steps:
        if step.action == CLEAN:
            shutil.rmtree(PRIVATE)
        elif step.action == ENVIRONMENT:
            _environment(run, requirement)
        else:
            _install(run, _PACKAGES[step.action])


def _install(run: Run, name: str) -> None:
    folder = "/var/lib/dpkg/updates"
    state = apt_packages.gather(run, [name], os.listdir(folder) if os.path.isdir(folder) else [])
    try:
        apt_packages.apply(run, time.sleep, apt_packages.plan(state, [apt_packages.Wanted(name, "")], []), [])
    except ForjaError as error:
        raise ForjaError(f"{name} cannot be installed: {error}") from error


def _environment(run: Run, requirement: str) -> None:
    """From whatever index the host's own pip is configured with; the hashes tell whether it is the right file."""
    python = PRIVATE + "/bin/python3"
    _do(run, [BASE, "-m", "venv", "--clear", "--system-site-packages", PRIVATE])
    draft = PRIVATE + "/requirement.txt"
    atomic_file.replace(draft, requirement.encode("utf-8"))
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
    _do(run, [python, "-m", "pip", "install"] + quiet + ["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", draft])
    _do(run, [python, "-c", "import pynvml"])
    os.rename(draft, STAMP)


def _do(run: Run, argv: List[str]) -> None:
    rc, out, err = run(argv)
    if rc != 0:
        said = "\n".join((out + err).strip().splitlines()[-10:])
        raise ForjaError(f"No Python of this host has pynvml, and it could not be given one. {' '.join(argv)}:\n{said}")
