#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: ollama_plan
short_description: Read what Ollama's service will really use, and refuse what cannot work
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Merges C(ollama.service) as the role M(forja.gpu.ollama#role) is about to write it with the drop-ins of the host, as systemd does. A
    drop-in of the host's owner (C(override.conf)) sorts after C(forja.conf) and wins; what it sets is what counts.
  - Checks, as the user of the service, that the folder of the models can be used, and that no other program has the port.
  - Changes nothing. It fails with one message that names the folder, file, process or entry that stands in the way.
attributes:
  check_mode:
    description: Never changes anything.
    support: full
  diff_mode:
    description: There is no change to show.
    support: none
options:
  host:
    description: The address that the role sets, as C(host) or C(host:port).
    type: str
    default: 127.0.0.1:11434
  models_dir:
    description: The folder of the models that the role sets.
    type: path
    default: /usr/share/ollama/.ollama/models
  environment:
    description: Further variables of the service that the role sets.
    type: dict
    default: {}
  models:
    description: Models whose names and digests are checked, each with O(ignore:name), O(ignore:digest) and O(ignore:state).
    type: list
    elements: dict
    default: []
  users:
    description: Users that must exist.
    type: list
    elements: str
    default: []
  interfaces:
    description: Interfaces that are to pass the fence; only checked.
    type: list
    elements: str
    default: []
  sources:
    description: Addresses, networks and ranges that are to pass the fence; only checked.
    type: list
    elements: str
    default: []
  state:
    description: With V(absent) nothing is refused; the folder in use is read all the same.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Read where Ollama will listen and store its models
  forja.gpu.ollama_plan:
    host: 0.0.0.0:11434
    sources: [192.0.2.0/24]
  register: plan

- name: Show the address that counts
  ansible.builtin.debug:
    msg: "{{ plan.endpoint }}, {{ 'open to others' if plan.open else 'this host only' }}"
"""

RETURN = r"""
host:
  description: The address of O(host) with its port, for C(OLLAMA_HOST).
  returned: success
  type: str
  sample: 127.0.0.1:11434
endpoint:
  description: Host and port on which the service will listen.
  returned: success
  type: str
  sample: 127.0.0.1:11434
port:
  description: The port alone.
  returned: success
  type: int
  sample: 11434
url:
  description: The URL under which the managed host reaches it.
  returned: success
  type: str
  sample: http://127.0.0.1:11434
open:
  description: Whether others than this host can reach the address, so that it needs a fence.
  returned: success
  type: bool
models_dir:
  description: The folder of the models that counts.
  returned: success
  type: str
user:
  description: The user of the service.
  returned: success
  type: str
  sample: ollama
groups:
  description: The groups of GPU device files, V(render) and V(video), that exist.
  returned: success
  type: list
  elements: str
account:
  description: What is missing of the user C(ollama), as sentences; empty if nothing is.
  returned: success
  type: list
  elements: str
store:
  description: What the folder of the models needs, as the module M(forja.gpu.ollama_store) says it; empty if nothing.
  returned: success
  type: list
  elements: str
unit:
  description: Values for the unit, quoted for it. V(writable) for C(ReadWritePaths), V(mounts) for C(RequiresMountsFor), V(protect_home)
    for C(ProtectHome).
  returned: success
  type: dict
environment:
  description: The effective variables whose names begin with C(OLLAMA_), such as C(OLLAMA_ORIGINS).
  returned: success
  type: dict
command:
  description: What C(/usr/local/bin/ollama) is a link to; empty if it is no link.
  returned: success
  type: str
  sample: /opt/forja/ollama/0.32.7/bin/ollama
profile:
  description: Whether logins get the address of the service from a file of this role, C(/etc/profile.d/forja-ollama.sh).
  returned: success
  type: bool
wsl_libraries:
  description: In WSL2 the folder of the libraries of Windows' driver, which the service needs on its library path; empty elsewhere.
  returned: success
  type: str
  sample: /usr/lib/wsl/lib
leftovers:
  description: Folders that upstream's install script has left and that nothing uses once the release of this role runs.
  returned: success
  type: list
  elements: str
  sample: [/usr/local/lib/ollama]
overrides:
  description: A sentence for each of the role's settings that a file of the host overrides, with the name of the file.
  returned: success
  type: list
  elements: str
  sample: ["/etc/systemd/system/ollama.service.d/override.conf sets OLLAMA_HOST=0.0.0.0, which wins over ollama_host."]
"""

import grp
import os
import pwd
import socket
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.facts.listeners import listeners
from ..module_utils.forja.facts.platform import WSL_LIBRARIES
from ..module_utils.forja.firewall.fence import read_fence
from ..module_utils.forja.host.access import Account, account
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.ollama import service as ollama
from ..module_utils.forja.ollama import store
from ..module_utils.forja.systemd.effective import unit_files
from ..module_utils.forja.systemd.paths import place

COMMAND = "/usr/local/bin/ollama"
PROFILE = "/etc/profile.d/forja-ollama.sh"
LEFTOVERS = ("/usr/local/lib/ollama",)


def argument_spec() -> Dict[str, Any]:
    texts = {"type": "list", "elements": "str", "default": []}
    return {
        "host": {"type": "str", "default": f"127.0.0.1:{ollama.PORT}"},
        "models_dir": {"type": "path", "default": f"{ollama.HOME}/.ollama/models"},
        "environment": {"type": "dict", "default": {}},
        "models": {"type": "list", "elements": "dict", "default": []},
        "users": texts,
        "interfaces": texts,
        "sources": texts,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def resolve(host: str) -> List[str]:
    try:
        return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)))
    except OSError:
        return []


def exists(kind: str, name: str) -> bool:
    try:
        return bool(pwd.getpwnam(name) if kind == "user" else grp.getgrnam(name))
    except KeyError:
        return False


def missing(user: Account, groups: List[str]) -> List[str]:
    """Say what the user of the service lacks."""
    if not user.exists:
        return [f"the user {user.name} does not exist"]
    found = [] if user.group == user.name else [f"the primary group of {user.name} is {user.group}"]
    found += [] if user.home == ollama.HOME else [f"the home of {user.name} is {user.home}"]
    return found + [f"{user.name} is not in the group {group}" for group in groups if group not in user.groups]


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    params = module.params
    wanted = ollama.Wanted(params["host"], params["models_dir"], params["environment"], params["models"])
    present, needed = params["state"] == "present", []
    try:
        if present:
            ollama.check(wanted)
            read_fence("ollama", [], params["interfaces"], params["sources"], "ollama_allowed_")
            absent = [name for name in params["users"] if not exists("user", name)]
            if absent:
                raise ForjaError(f"ollama_users: this host has no user {', '.join(absent)}. Create the user first, or remove the name.")
        where = place("system", "/", 0, 0, "/root")
        service = ollama.read_service(wanted, unit_files(where, ollama.UNIT, ollama.written(wanted)), resolve)
        user = account(service.user)
        if present:
            real = os.path.realpath(service.models_dir)
            ollama.refuse_settings(service, unit_files(where, ollama.UNIT, ollama.written(wanted, real)))
            ollama.refuse_strangers(service, listeners(HostFiles(), service.endpoint.port))
            needed = store.plan(store.gather(service.models_dir, ollama.HOME, user), user)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=f"{error} Nothing was changed.")
    groups = [name for name in ("render", "video") if exists("group", name)]
    module.exit_json(
        changed=False, host=str(ollama.parse_host(wanted.host, resolve)), endpoint=str(service.endpoint), port=service.endpoint.port,
        url=service.endpoint.url, open=service.endpoint.open, models_dir=service.models_dir, user=service.user, groups=groups,
        account=missing(account(ollama.USER), groups), unit=ollama.unit_paths(service), store=[step.text for step in needed],
        environment=service.environment,
        overrides=service.overrides, command=HostFiles().link(COMMAND) or "",
        profile=os.path.exists(PROFILE),
        wsl_libraries=WSL_LIBRARIES if os.path.isdir(WSL_LIBRARIES) else "",
        leftovers=[path for path in LEFTOVERS if os.path.isdir(path) and not os.path.islink(path)])


if __name__ == "__main__":
    main()
