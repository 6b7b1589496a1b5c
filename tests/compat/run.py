#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs every module of plugins/modules/ on Python 3.6, with ansible-core 2.16 on the controller.

Each module has a playbook here, <module>.yml, that runs it on this machine with a real Python 3.6 as the host's
interpreter and asserts what it returned. Arguments are names of modules; without any, all are run. The machine needs
a Python 3.6 (FORJA_PYTHON36, python3.6 on the PATH, or pyenv's) and, for ansible-core 2.16, a Python 3.10 to 3.12.
Where one of them is missing, one line says so and the exit code is 0: this check is for machines that have both.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
HERE = REPO / "tests" / "compat"
LOCK = HERE / "requirements.lock"
VENV = REPO / ".venv-compat"
CONTROLLERS = ("3.12", "3.11", "3.10")


def interpreters(version: str) -> Iterator[str]:
    """Where a Python of this version may be: the PATH, pyenv."""
    yield shutil.which(f"python{version}") or ""
    yield from map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"), reverse=True))


def find(*versions: str) -> str | None:
    """The first interpreter that runs and is of one of these versions; a shim of pyenv may do neither."""
    found = ((version, ask(python)) for version in versions for python in interpreters(version) if python)
    return next((executable for wanted, (version, executable) in found if version == wanted), None)


def ask(python: str) -> tuple[str, str]:
    """Version and true path of an interpreter; both empty where it does not run."""
    question = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable)"
    told = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False)
    version, executable = told.stdout.splitlines() if told.returncode == 0 else ("", "")
    return version, executable


def install(python: str) -> None:
    """Make the virtual environment of the lock, unless it stands already."""
    stamp, wanted = VENV / "lock.sha256", hashlib.sha256(LOCK.read_bytes() + python.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    subprocess.run([python, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "--requirement", str(LOCK)], check=True)
    stamp.write_text(wanted)


def main(modules: list[str]) -> int:
    named = os.environ.get("FORJA_PYTHON36")
    if named and (not shutil.which(named) or ask(named)[0] != "3.6"):
        print(f"compat: FORJA_PYTHON36 names {named}, which is not a Python 3.6.", file=sys.stderr)
        return 1
    python36, controller = ask(named)[1] if named else find("3.6"), find(*CONTROLLERS)
    if python36 is None:
        print("compat: skipped, there is no Python 3.6 here; name one in FORJA_PYTHON36 to test what JetPack 4 runs.")
        return 0
    if controller is None:
        print(f"compat: skipped, ansible-core 2.16 needs one of Python {', '.join(CONTROLLERS)} and there is none here.")
        return 0
    playbooks = [HERE / f"{module}.yml" for module in modules] if modules else sorted(HERE.glob("*.yml"))
    if not playbooks:
        print("compat: tests/compat holds no playbook; that cannot be right.", file=sys.stderr)
        return 1
    install(controller)
    told = subprocess.run([python36, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"compat: {', '.join(path.stem for path in playbooks)} on {told}", flush=True)
    command = [str(VENV / "bin" / "ansible-playbook"), "--inventory", "localhost,", "--connection", "local"]
    # The helpers of a playbook need this Python: the project's own, not the old one of the hosts.
    variables = {"ansible_python_interpreter": python36, "python": sys.executable}
    command += ["--extra-vars", json.dumps(variables), *map(str, playbooks)]
    done = subprocess.run(command, cwd=REPO, env={**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg")}, check=False)
    print(f"compat: {len(playbooks)} modules on {told} {'failed' if done.returncode else 'passed'}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
