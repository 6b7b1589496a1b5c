#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: nft_fence
short_description: Fence a TCP port with an nftables table of its own
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Lets only this host, the interfaces and the sources that are given reach a TCP port; everybody else is dropped. The rules are the
    table C(inet forja_<name>), which changes nothing of other firewalls.
  - Writes the rules to C(/etc/<name>-fence.nft) and loads them into the kernel. Both are compared with what is wanted, so that rules that
    another program has flushed come back and are reported as a change.
  - On WSL2 the interface C(loopback0) of mirrored networking passes too, because there the traffic of the host itself arrives on it.
  - The kernel forgets the rules at a reboot. Load the file before the service starts, with C(ExecStartPre=+/usr/sbin/nft -f <path>).
  - Names other firewalls (ufw, firewalld) that drop what the fence accepts, each with the command that opens it. It does not change them.
requirements:
  - nft on the managed host, except with V(state=absent) and in check mode
attributes:
  check_mode:
    description: Predicts the steps of the run, also where nft is not installed yet.
    support: full
  diff_mode:
    description: Shows the file of the rules before and after, and the rules in the kernel where they differ.
    support: full
options:
  name:
    description: Names the table and the file.
    type: str
    required: true
  ports:
    description: The TCP ports behind the fence. Required with V(state=present).
    type: list
    elements: int
    default: []
  interfaces:
    description: Interfaces that pass, by name; V(*) at the end of a name stands for any characters.
    type: list
    elements: str
    default: []
  sources:
    description: Addresses, networks with a prefix length, and ranges (V(192.0.2.10-192.0.2.20)) that pass, IPv4 or IPv6. Host names,
      netmasks and zones are refused, because nft does not take them here.
    type: list
    elements: str
    default: []
  at:
    description:
      - V(input) for a port of a program on this host.
      - V(published) for a port that a container publishes. Such packets are rewritten and forwarded, and never pass the hook of the first.
      - V(loopback) for a port that is published on loopback by a Docker engine before 28, which neighbors can reach.
    type: str
    choices: [input, published, loopback]
    default: input
  state:
    description:
      - V(restored) brings the kernel to what the file says, or removes the table where there is no file. It is for a rollback, after
        the previous file was put back.
    type: str
    choices: [present, absent, restored]
    default: present
"""

EXAMPLES = r"""
- name: Fence Ollama's port
  forja.gpu.nft_fence:
    name: ollama
    ports: [11434]
    interfaces: [docker0, "br-*"]
    sources: [192.0.2.0/24, "2001:db8::10-2001:db8::20"]

- name: Remove the fence
  forja.gpu.nft_fence:
    name: ollama
    state: absent
"""

RETURN = r"""
survives:
  description: Whether the drop-ins of C(nftables.service), which flushes all tables, load the file again each time.
  returned: success
  type: bool
path:
  description: The file of the rules.
  returned: success
  type: str
  sample: /etc/ollama-fence.nft
steps:
  description: What was done, or would be done in check mode; empty if nothing changed.
  returned: success
  type: list
  elements: str
  sample: [write /etc/ollama-fence.nft, load table inet forja_ollama into the kernel]
problems:
  description: A sentence for each source or interface that another active firewall drops, with the command that opens it.
  returned: success
  type: list
  elements: str
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.firewall import fence_apply
from ..module_utils.forja.firewall.fence import read_fence
from ..module_utils.forja.firewall.others import problems
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.host.run import module_run
from ..module_utils.forja.systemd.paths import place


def argument_spec() -> Dict[str, Any]:
    return {
        "name": {"type": "str", "required": True},
        "ports": {"type": "list", "elements": "int", "default": []},
        "interfaces": {"type": "list", "elements": "str", "default": []},
        "sources": {"type": "list", "elements": "str", "default": []},
        "at": {"type": "str", "choices": ["input", "published", "loopback"], "default": "input"},
        "state": {"type": "str", "choices": ["present", "absent", "restored"], "default": "present"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True, required_if=[("state", "present", ["ports"])])
    params, files, run = module.params, HostFiles(), module_run(module)
    try:
        fence = read_fence(params["name"], params["ports"], params["interfaces"] + fence_apply.local_interfaces(files), params["sources"],
                           at=params["at"])
        host = fence_apply.Host(run, fence_apply.path_of(fence))
        outcome = converge(
            lambda: fence_apply.gather(host, fence),
            lambda state: fence_apply.plan(state, fence, params["state"]),
            lambda state, steps: fence_apply.apply(host, fence, state, steps),
            module.check_mode,
            lambda step: step.text,
        )
        # Published ports pass none of the rules that those have for the host's own programs.
        other = problems(files, run, fence) if params["state"] == "present" and fence.at == "input" else []
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=outcome.changed, path=host.path, steps=[step.text for step in outcome.steps], problems=other,
                     survives=fence_apply.survives(place("system", "/", 0, 0, "/root"), host.path),
                     diff=fence_apply.diff(outcome.before, fence, params["state"]))


if __name__ == "__main__":
    main()
