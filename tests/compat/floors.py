# SPDX-License-Identifier: Apache-2.0
"""The managed side on the oldest Pythons that it may meet: the floors of pyproject.toml, [tool.forja.python-floors].

Every helper is imported by a real interpreter of its floor. Every module of the lowest floor has a playbook here, <module>.yml, that runs
it on this machine with that interpreter as the host's and ansible-core 2.16 on the controller, and asserts what it returned.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib

from tests.compat import pythons
from tests.compat.pythons import HERE, REPO

FLOORS: dict[str, list[str]] = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["forja"]["python-floors"]
LOWEST = "3.6"
CONTROLLERS = ("3.12", "3.11", "3.10")  # what ansible-core 2.16 runs on
IMPORT = "import importlib, sys; sys.path.insert(0, sys.argv[1]); [importlib.import_module(name) for name in sys.argv[2:]]"


def floor(path: str) -> str:
    """Return the floor of a file: that of the longest entry of the table that it is in."""
    entries = [(len(entry), version) for version, listed in FLOORS.items() for entry in listed if path.startswith(entry)]
    assert entries, f"{path}: pyproject.toml, [tool.forja.python-floors], names no folder that it is in."
    return max(entries)[1]


def helpers(version: str) -> list[str]:
    """List the helpers with this floor, as names to import."""
    root = REPO / "plugins/module_utils"
    found = (path for path in sorted(root.rglob("*.py")) if floor(str(path.relative_to(REPO))) == version)
    return [".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in found]


def modules() -> list[str]:
    """List the modules of the lowest floor; each has a playbook."""
    return [path.stem for path in sorted(REPO.glob("plugins/modules/*.py")) if floor(str(path.relative_to(REPO))) == LOWEST]


def import_helpers() -> int:
    for version in FLOORS:
        python, names = pythons.find(version), helpers(version)
        if python is None:
            print(f"compat: skipped, there is no Python {version} here that could import {len(names)} helpers.")
            continue
        result = subprocess.run([python, "-B", "-c", IMPORT, str(REPO / "plugins/module_utils"), *names], check=False)
        print(f"compat: {len(names)} helpers {'not ' if result.returncode else ''}imported by Python {version}", flush=True)
        if result.returncode:
            return result.returncode
    return 0


def run_modules() -> int:
    python, controller = pythons.find(LOWEST), pythons.find(*CONTROLLERS)
    if python is None:
        print(f"compat: skipped, there is no Python {LOWEST} here; name one in FORJA_PYTHON36 to test what JetPack 4 runs.")
        return 0
    if controller is None:
        print(f"compat: skipped, ansible-core 2.16 needs one of Python {', '.join(CONTROLLERS)} and there is none here.")
        return 0
    playbooks = [str(HERE / f"{module}.yml") for module in modules()]
    command = [str(pythons.environment("core-2.16", controller) / "ansible-playbook"), "--inventory", "localhost,", "--connection", "local"]
    # The playbooks start helpers of the tests with the project's own Python.
    command += ["--extra-vars", json.dumps({"ansible_python_interpreter": python, "python": sys.executable}), *playbooks]
    result = subprocess.run(command, cwd=REPO, env={**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg")}, check=False)
    print(f"compat: {len(playbooks)} modules on Python {LOWEST} {'failed' if result.returncode else 'passed'}", flush=True)
    return result.returncode


def main() -> int:
    return import_helpers() or run_modules()
