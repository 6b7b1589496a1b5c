#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: forja_program
short_description: Installs Forja's MIG program on a host, where it runs without Ansible
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Writes the very code that M(forja.gpu.gpu_mig) runs, which came to the host with this module, below C(/usr/local/lib/forja), and the
    command C(/usr/local/sbin/forja-mig) that starts it with the Python that has pynvml. So the boot does what Ansible did.
  - Only what differs is written. The new release is made beside the old one and becomes visible by a rename.
  - Without the command it runs as C(PYTHONPATH=/usr/local/lib/forja python3 -m forja.mig).
attributes:
  check_mode:
    description: Predicts what would be written.
    support: full
  diff_mode:
    description: Shows the SHA-256 of each file, before and after.
    support: full
options:
  state:
    description: Whether the program is on the host.
    type: str
    choices: [present, absent]
    default: present
  files:
    description: What belongs to the program on this host, such as its unit and its configuration. Folders are made where they are missing.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      content:
        description: What it holds; data becomes JSON. A file without content is removed.
        type: raw
"""

EXAMPLES = r"""
- name: Have the command forja-mig, and the configuration that it applies
  forja.gpu.forja_program:
    files:
      - path: /etc/forja/mig.yaml
        content: {version: v1, mig-configs: {"off": [{devices: all, mig-enabled: false}]}}
"""

RETURN = r"""
steps:
  description: What was done, in check mode what would be done.
  returned: success
  type: list
  elements: str
written:
  description: Those of O(files) that are new, changed or gone.
  returned: success
  type: list
  elements: str
interpreter:
  description: The Python that the command uses; null where none has pynvml, in check mode and with O(state=absent).
  returned: success
  type: str
  sample: /usr/bin/python3
"""

import hashlib
import importlib.util
import json
import sys
from typing import Any, Dict, List, NamedTuple, Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host import atomic as atomic_file
from ..module_utils.forja.host import program as program_files
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.host.run import module_run
from ..module_utils.forja.mig import __main__ as program  # so that Ansible sends it, with all that it imports
from ..module_utils.forja.nvml.access import interpreter_with_binding


def argument_spec() -> Dict[str, Any]:
    file = {"path": {"type": "path", "required": True}, "content": {"type": "raw"}}
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "files": {"type": "list", "elements": "dict", "default": [], "options": file},
    }


def interpreter() -> Optional[str]:
    found = interpreter_with_binding(HostFiles("/"))
    return found or (sys.executable if importlib.util.find_spec("pynvml") else None)


def content(of: Any) -> Optional[bytes]:
    if not of:
        return None
    text = of if isinstance(of, str) else json.dumps(of, indent=4, sort_keys=True)
    return (text.rstrip("\n") + "\n").encode("utf-8")


def listing(files: Dict[str, bytes]) -> str:
    return "".join(f"{hashlib.sha256(content).hexdigest()} {path}\n" for path, content in sorted(files.items()))


class Found(NamedTuple):
    program: program_files.State
    files: Dict[str, Optional[bytes]]


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    home, command = program_files.HOME, program_files.LAUNCHER
    present, python = module.params["state"] == "present", interpreter()
    files = program_files.wanted_files() if present else {}
    if present and python is None and not module.check_mode:
        module.fail_json(msg=f"No Python of this host has pynvml, which {program.__name__} needs. The module nvml_binding gives it one.")
    text = program_files.launcher(python or "/usr/bin/python3") if present else None

    def compile_in(folder: str) -> None:
        rc, out, err = module_run(module)([python or "", "-I", "-m", "compileall", "-q", folder])
        if rc != 0:
            raise ForjaError(f"{python} cannot compile the program: {(out + err).strip()}")

    wanted = {file["path"]: content(file["content"]) for file in module.params["files"]}

    def read() -> Found:
        return Found(program_files.gather(home, command), {path: atomic_file.read(path) for path in wanted})

    def changed_files(found: Found) -> List[str]:
        return [path for path in wanted if found.files[path] != wanted[path]]

    def steps_of(found: Found) -> List[str]:
        return program_files.plan(found.program, files, text) + [
            f"{'remove' if wanted[path] is None else 'write'} {path}" for path in changed_files(found)]

    def apply(found: Found, _: List[str]) -> None:
        if program_files.plan(found.program, files, text):
            program_files.apply(home, command, files, text, compile_in)
        for path in changed_files(found):
            atomic_file.replace(path, wanted[path])

    try:
        outcome = converge(read, steps_of, apply, module.check_mode)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    before, written = outcome.before, changed_files(outcome.before)
    diff = [{"before_header": path, "after_header": path, "before": (before.files[path] or b"").decode("utf-8", "replace"),
             "after": (wanted[path] or b"").decode("utf-8")} for path in written]
    module.exit_json(changed=outcome.changed, steps=outcome.steps, written=written, interpreter=python if present else None,
                     diff=[{"before": listing(before.program.tree), "after": listing(files)}] + diff)


if __name__ == "__main__":
    main()
