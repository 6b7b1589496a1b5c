#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: nvidia_driver_plan
short_description: Decides which NVIDIA driver packages a host gets, or why none
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Compares the facts of M(gpu_facts), what is installed, what apt offers and what the user asks for, and answers with the packages to
    install and one sentence why; with nothing to do and why; or it fails and says what stands in the way and what to do.
  - It changes nothing. The role C(nvidia_driver) carries the answer out.
  - Debian and Ubuntu, on the host itself. The hardware is what O(facts) says; kernels, packages and repositories are the host's own.
attributes:
  check_mode:
    description: Reads only, so check mode is no different.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to compare.
    support: none
options:
  facts:
    description: What M(gpu_facts) returned as C(ansible_facts.gpu).
    type: dict
    required: true
  distribution:
    description: Name of the distribution, V(Debian) or V(Ubuntu).
    type: str
    required: true
  distribution_version:
    description: Its version, as V(13) or V(24.04).
    type: str
    required: true
  codename:
    description: Its code name, as V(trixie).
    type: str
    required: true
  state:
    description: Whether a driver is wanted. With V(absent) the answer is the list of packages to remove.
    type: str
    choices: [present, absent]
    default: present
  source:
    description:
      - Where the driver comes from. V(auto) keeps the source of an installed driver, else takes Ubuntu's signed modules, else NVIDIA's
        repository; Microsoft's GRID build where C(recommended) says so.
    type: str
    choices: [auto, distribution, nvidia, grid]
    default: auto
  version:
    description: A branch (V(595)) or a version (V(595.71.05)); empty for the recommended branch.
    type: str
    default: ""
  flavour:
    description: Flavour of the kernel module.
    type: str
    choices: [auto, open, proprietary]
    default: auto
  graphics:
    description: Whether the parts for displays are installed too. V(auto) when a display server of the host has a GPU of NVIDIA's open.
    type: str
    choices: [auto, "yes", "no"]
    default: auto
  allow_ended:
    description: Whether a branch that NVIDIA no longer maintains may be installed.
    type: bool
    default: false
  secure_boot:
    description:
      - What to do where Secure Boot is on and no signed module exists. V(refuse) fails, V(stage_mok) asks for the enrolment of a key
        first, V(known_off) is for hosts where Secure Boot is off but cannot be read.
    type: str
    choices: [refuse, stage_mok, known_off]
    default: refuse
  upgrade:
    description: Whether an installed driver is brought to the newest version of the wanted branch.
    type: bool
    default: false
  grid_releases:
    description: Versions of Microsoft's GRID build that there are to choose from.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Decide
  nvidia_driver_plan:
    facts: "{{ ansible_facts.gpu }}"
    distribution: "{{ ansible_facts.distribution }}"
    distribution_version: "{{ ansible_facts.distribution_version }}"
    codename: "{{ ansible_facts.distribution_release }}"
    version: "580"
  register: driver

- name: Say it
  ansible.builtin.debug:
    msg: "{{ driver.plan.action }}: {{ driver.plan.reason }}"
"""

RETURN = r"""
plan:
  description:
    - C(action) is V(none) (no driver belongs here), V(keep) (one works, nothing else is asked for), V(install), V(remove), or
      V(stage_mok) (a key has to be enrolled first); C(reason) says why in a sentence or two; C(notes) what else to know.
    - C(source), C(flavour), C(branch) and C(version) describe the driver; C(version) is null where apt does not know it yet.
    - C(before) and C(absent_before) belong into a transaction before that of C(packages) and C(absent); M(apt_packages) takes all four.
    - C(kernels) must have a module before nouveau is kept from loading; C(dkms) whether it is built here; C(fabric_manager) whether one is
      needed; C(unknown) lists packages that apt does not know (yet).
  returned: success
  type: dict
installed:
  description: The driver packages of the host and their versions.
  returned: success
  type: dict
changes:
  description: Whether packages of the driver have to be installed, changed or removed.
  returned: success
  type: bool
steps:
  description: The same in words.
  returned: success
  type: list
  elements: str
reboot_reasons:
  description: Why the GPUs have the installed driver only after a reboot. Empty when they have it.
  returned: success
  type: list
  elements: str
debian_source:
  description: Content of a deb822 source with the components that the driver needs and the host's own sources lack; empty if nothing.
  returned: success
  type: str
mok:
  description: C(state) (V(enrolled), V(staged) or V(missing)) of the key that DKMS signs with, and its file C(path).
  returned: success
  type: dict
initramfs:
  description: The command that writes the initial file systems of all kernels anew; empty where the host has none.
  returned: success
  type: list
  elements: str
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja import driver_host, driver_packages
from ..module_utils.forja.apt_packages import State, plan, wanted
from ..module_utils.forja.driver_plan import decide, reboot_reasons, remove
from ..module_utils.forja.driver_rules import DriverError, Wish
from ..module_utils.forja.host_files import HostFiles

INITRAMFS = (["/usr/sbin/update-initramfs", "-u", "-k", "all"], ["/usr/bin/dracut", "--force", "--regenerate-all"])


def argument_spec() -> Dict[str, Any]:
    return {
        "facts": {"type": "dict", "required": True},
        "distribution": {"type": "str", "required": True},
        "distribution_version": {"type": "str", "required": True},
        "codename": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "source": {"type": "str", "choices": ["auto", "distribution", "nvidia", "grid"], "default": "auto"},
        "version": {"type": "str", "default": ""},
        "flavour": {"type": "str", "choices": ["auto", "open", "proprietary"], "default": "auto"},
        "graphics": {"type": "str", "choices": ["auto", "yes", "no"], "default": "auto"},
        "allow_ended": {"type": "bool", "default": False},
        "secure_boot": {"type": "str", "choices": ["refuse", "stage_mok", "known_off"], "default": "refuse"},
        "upgrade": {"type": "bool", "default": False},
        "grid_releases": {"type": "list", "elements": "str", "default": []},
    }


def displays(facts: Dict[str, Any]) -> bool:
    """Whether something has a card node of an NVIDIA GPU open, as display servers do."""
    nvidia = {gpu["address"] for gpu in facts["gpus"] if gpu["vendor"] == "nvidia"}
    holders = [one for address, them in (facts.get("holders") or {}).items() if address in nvidia for one in them]
    return any(node.startswith("/dev/dri/card") for one in holders for node in one["nodes"])


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    module.run_command_environ_update = {"LC_ALL": "C"}
    params, files, run = module.params, HostFiles("/"), module.run_command
    graphics = params["graphics"] == "yes" or params["graphics"] == "auto" and displays(params["facts"])
    wish = Wish(params["source"], params["version"], params["flavour"], graphics, params["allow_ended"], params["secure_boot"],
                params["upgrade"], tuple(params["grid_releases"]))
    architecture = run(["dpkg", "--print-architecture"], check_rc=True)[1].strip()
    branches = sorted({params["version"].split(".")[0], str(params["facts"]["recommended"]["branch"] or "")} - {""}
                      | set(driver_packages.MAINTAINED))
    try:
        host = driver_host.read(run, files, params["distribution"], params["distribution_version"], architecture,
                                [branch for branch in branches if branch.isdigit()])
        decision = decide(params["facts"], host, wish) if params["state"] == "present" else remove(params["facts"], host)
        state = State(host.installed, False)
        steps = plan(state, [wanted(item) for item in decision.packages], decision.absent_before + decision.absent).steps
    except DriverError as error:
        module.fail_json(msg=str(error))
        return
    version = next((v.split("-")[0] for n, v in sorted(host.installed.items()) if n in [p.partition("=")[0] for p in decision.packages]
                    and not driver_packages.OWN_VERSION.match(n)), None)
    mok = driver_host.mok_state(run, files)
    module.exit_json(
        changed=False, plan=decision._asdict(), installed=host.installed, changes=bool(steps), steps=steps,
        reboot_reasons=reboot_reasons(params["facts"], version) if version else [],
        debian_source=driver_host.debian_source(driver_host.components(run), params["codename"], decision.source),
        mok={"state": mok[0], "path": mok[1]}, initramfs=next((command for command in INITRAMFS if files.exists(command[0])), []),
    )


if __name__ == "__main__":
    main()
