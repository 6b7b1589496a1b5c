#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: nvidia_driver_plan
short_description: Decides which NVIDIA driver a host gets, or why none, and what of it is still to be done
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Compares the facts of M(gpu_facts), what is installed, what apt offers and what the user asks for, and answers with the packages to
    install and one sentence why; with nothing to do and why; or it fails and says what stands in the way and what to do.
  - Looks at the files, holds, modules and daemons that belong to the driver, too, and lists what of them is still to be done.
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
    description: >-
      Whether the parts for displays are installed too. V(auto) keeps those of an installed driver, else has them where a display server
      of the host has a GPU of NVIDIA's open.
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
  repository:
    description: NVIDIA's repository as it is to be added.
    type: dict
    required: true
    suboptions:
      uri:
        description: Its address.
        type: str
        required: true
      key_fingerprint:
        description: Fingerprint of its key.
        type: str
        required: true
      key_sha256:
        description: SHA-256 of the key's file; empty for any.
        type: str
        default: ""
      replaces:
        description: Other addresses of it, whose entries the host's sources lose.
        type: list
        elements: str
        default: []
  persistence:
    description: Whether the persistence daemon runs.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Decide
  forja.gpu.nvidia_driver_plan:
    facts: "{{ ansible_facts.gpu }}"
    distribution: "{{ ansible_facts.distribution }}"
    distribution_version: "{{ ansible_facts.distribution_version }}"
    codename: "{{ ansible_facts.distribution_release }}"
    version: "580"
    repository:
      uri: https://developer.download.nvidia.com/compute/cuda/repos/debian13/x86_64/
      key_fingerprint: 02182E60104FCDC26EAE1B8597A5D4CB8793F200
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
steps:
  description: Everything that is left to do, in words. Empty where an earlier run did it all and nobody undid any of it.
  returned: success
  type: list
  elements: str
summary:
  description: The driver in one line for a person.
  returned: success
  type: str
version:
  description: NVIDIA's version of the driver that is installed, or that works; empty without one.
  returned: success
  type: str
reboot:
  description: >-
    Why the GPUs have the installed driver only after a reboot. Empty when they have it, and where the host has booted since the driver was
    changed, so that another reboot brings nothing. In check mode also what the change would require.
  returned: success
  type: list
  elements: str
problems:
  description: Why the GPUs do not have the installed driver although the host has booted since it was changed.
  returned: success
  type: list
  elements: str
files:
  description: Path and content of the files that belong to the driver, by what they are for. Those that need none are left out.
  returned: success
  type: dict
former:
  description: Path and content (null where there is none) of the files that a change which fails has to put back.
  returned: success, while something is left to do
  type: dict
there:
  description: >-
    Whether a driver is C(installed), and for which C(kernels) it must have a module again after a change that failed.
  returned: success
  type: dict
persistence:
  description: Settings of the persistence daemon, for M(systemd_dropin).
  returned: success
  type: dict
services:
  description: >-
    The driver's units, and whether they are to start at boot. In check mode without those that do not exist yet.
  returned: success
  type: dict
names:
  description: >-
    For M(apt_packages) patterns C(set) of the packages to hold, C(others) of those that only look alike, and C(leftovers) of those that an
    interrupted change leaves half installed; C(dkms), the expression for M(dkms_modules); C(modprobe), the name for M(modprobe_config).
  returned: success
  type: dict
release_installed:
  description: Whether Microsoft's GRID build of the version is installed, and no run was cut off in it.
  returned: success
  type: bool
"""

from typing import Any, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.apt import apt_get
from ..module_utils.forja.apt.packages import State, plan, wanted
from ..module_utils.forja.driver import host as driver_host
from ..module_utils.forja.driver import mok
from ..module_utils.forja.driver import package_names as driver_packages
from ..module_utils.forja.driver import setup as driver_setup
from ..module_utils.forja.driver.modprobe import rebuild_command
from ..module_utils.forja.driver.plan import Decision, decide, remove, there
from ..module_utils.forja.driver.report import reboot_reasons, summary
from ..module_utils.forja.driver.rules import Host, Wish
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.host.run import Run, module_run


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
        "repository": {"type": "dict", "required": True, "options": {
            "uri": {"type": "str", "required": True},
            "key_fingerprint": {"type": "str", "required": True},
            "key_sha256": {"type": "str", "default": ""},
            "replaces": {"type": "list", "elements": "str", "default": []},
        }},
        "persistence": {"type": "bool", "default": True},
    }


NEEDED = ("platform", "gpus", "driver", "nouveau", "secure_boot", "recommended")


def complete(facts: Dict[str, Any]) -> Dict[str, Any]:
    """Return the facts; raises where gpu_facts gathered a part of them only."""
    missing = [name for name in NEEDED if name not in facts]
    if missing:
        raise ForjaError(f"The facts lack {', '.join(missing)}. Run gpu_facts without `gather`, or with at least platform, gpus, driver "
                         "and recommended in it.")
    return facts


def wants_graphics(facts: Dict[str, Any], installed: Dict[str, str]) -> bool:
    """Whether the parts for displays are wanted: where a driver has or lacks them it stays so, whatever runs at the moment."""
    if any(not driver_packages.LEFT_TO_APT.match(name) for name in installed):
        return any(driver_packages.DESKTOP.match(name) for name in installed)
    return displays(facts)


def displays(facts: Dict[str, Any]) -> bool:
    """Whether something has a card node of an NVIDIA GPU open, as display servers do."""
    nvidia = {gpu["address"] for gpu in facts["gpus"] if gpu["vendor"] == "nvidia"}
    holders = [one for address, them in (facts.get("holders") or {}).items() if address in nvidia for one in them]
    return any(node.startswith("/dev/dri/card") for one in holders for node in one["nodes"])


def installed_version(host: Host, decision: Decision, release_installed: bool) -> Optional[str]:
    """NVIDIA's version of what the decision names, where it is installed."""
    if decision.source == "grid":
        return decision.version if release_installed else None
    set_ = [item.partition("=")[0] for item in decision.packages]
    found = sorted(name for name in host.installed if name in set_ and not driver_packages.OWN_VERSION.match(name))
    return host.installed[found[0]].split("-")[0] if found else None


def reboot_and_problems(facts: Dict[str, Any], version: Optional[str], decision: Decision, booted: bool) -> List[List[str]]:
    """Return why a reboot is required, and what one has not mended."""
    known = version or decision.action == "remove"
    reasons = reboot_reasons(facts, version, decision.flavour) if known and decision.action in ("install", "remove") else []
    return [[], [f"{reason}, although the host has booted since the driver was changed: see `journalctl -k`" for reason in reasons]] \
        if booted else [reasons, []]


def answer(module: AnsibleModule, run: Run, files: HostFiles) -> Dict[str, Any]:
    params, facts, present = module.params, complete(module.params["facts"]), module.params["state"] == "present"
    branches = {params["version"].split(".")[0], str(facts["recommended"]["branch"] or ""), *driver_packages.MAINTAINED}
    architecture = apt_get.architecture(run)
    host = driver_host.read(run, files, params["distribution"], params["distribution_version"], architecture,
                            sorted(branch for branch in branches if branch.isdigit()))
    graphics = params["graphics"] == "yes" or params["graphics"] == "auto" and wants_graphics(facts, host.installed)
    wish = Wish(params["source"], params["version"], params["flavour"], graphics, params["allow_ended"], params["secure_boot"],
                params["upgrade"], tuple(params["grid_releases"]))
    decision = decide(facts, host, wish) if present else remove(facts, host)
    packages = plan(State(host.installed, False), [wanted(item) for item in decision.packages], decision.absent_before + decision.absent)
    source = driver_host.debian_source(driver_host.components(run), params["codename"], decision.source)
    setup = driver_setup.Wanted(params["distribution"], architecture, source, params["repository"], params["persistence"])
    release_installed = driver_setup.grid_installed(files, decision, setup)
    steps = driver_setup.steps(run, files, decision, setup, mok.find(run, files)[0])
    version = installed_version(host, decision, release_installed)
    booted = driver_host.booted_since(files, decision.kernels)
    reboot, problems = reboot_and_problems(facts, version, decision, booted)
    line = summary(decision, params["distribution"], reboot or problems, facts["nouveau"]["blacklisted_by"], bool(problems))
    services = driver_setup.services(decision, setup)
    if module.check_mode:
        services = {unit: enabled for unit, enabled in services.items() if files.exists(f"/usr/lib/systemd/system/{unit}")}
    if module.check_mode and decision.action == "install" and (packages.steps or decision.source == "grid" and not release_installed):
        reboot = reboot or [f"NVIDIA {decision.version or decision.branch} is not loaded yet"]
    return {
        "plan": decision._asdict(), "installed": host.installed, "steps": steps, "summary": line, "reboot": reboot, "problems": problems,
        "version": version or decision.version or "", "files": driver_setup.contents(decision, setup, bool(rebuild_command(files))),
        "former": driver_setup.former(setup) if steps else {}, "there": there(facts, host, decision.kernels),
        "persistence": driver_setup.persistence(decision, setup), "release_installed": release_installed,
        "services": services,
        "names": {"set": driver_packages.SET, "others": driver_packages.OTHERS, "leftovers": driver_packages.LEFTOVERS,
                  "dkms": driver_packages.DKMS, "modprobe": driver_setup.MODPROBE.name},
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    try:
        result = answer(module, module_run(module), HostFiles("/"))
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
