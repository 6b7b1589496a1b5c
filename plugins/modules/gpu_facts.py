#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
---
module: gpu_facts
short_description: Know the GPUs of a host, its platform and the driver it needs
version_added: "0.1.0"
description:
  - Returns C(ansible_facts.gpu), the GPUs of a host, what kind of machine it is, the state of its driver, who holds the
    GPUs, and which driver it should have, with a reason for each choice.
  - Works before any driver is there. It reads sysfs, procfs and a few files; it installs nothing and starts no program.
    When an NVIDIA driver is loaded and some Python of the distribution has C(pynvml), NVML adds what only the driver knows.
  - What cannot be read is null, what is broken is a sentence under C(problems). The module fails for wrong options only.
  - Root is not needed. Without it the list of holders and of MIG instances can be incomplete.
  - A vGPU looks like a whole GPU on PCI. Only Azure's sizes tell it; elsewhere choose the driver yourself.
options:
  root:
    description:
      - Folder that is read instead of C(/), such as the tree of another machine.
      - NVML is asked for C(/) only; Azure's metadata service is asked for another tree only when O(imds_endpoint) is set.
    type: path
    default: /
  gather:
    description:
      - What to return. C(problems) and C(summary) are always there.
      - Leaving out V(nvml) and V(holders) saves most of the time.
    type: list
    elements: str
    choices: [platform, gpus, driver, nvml, holders, recommended]
    default: [platform, gpus, driver, nvml, holders, recommended]
  imds_endpoint:
    description:
      - Address of Azure's instance metadata service.
      - It is asked only when DMI or cloud-init says that the host is an Azure VM, and never through a proxy.
    type: str
    default: http://169.254.169.254
  imds_timeout:
    description: How long to wait for the metadata service, in seconds.
    type: float
    default: 1.0
  nvml_timeout:
    description:
      - How long to wait for NVML, in seconds. Without persistence mode a driver may need a second for each GPU.
      - A driver that takes longer is reported under C(problems); the module does not hang with it.
    type: float
    default: 20.0
  report:
    description:
      - Whether summary, driver version, reasons to reboot and problems become a custom statistic of Ansible's, C(forja.gpu), which
        C(forja_summary) prints after the recap.
    type: bool
    default: false
attributes:
  check_mode:
    description: Reads only, so check mode is no different.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to compare.
    support: none
author: The Forja authors (@forja)
"""

EXAMPLES = r"""
- name: Look at the GPUs
  forja.gpu.gpu_facts: {}

- name: Say what was found
  ansible.builtin.debug:
    msg: "{{ ansible_facts.gpu.gpus | map(attribute='name') | join(', ') }}: {{ ansible_facts.gpu.recommended.reasons.driver }}"

- name: Look quickly, without the driver
  forja.gpu.gpu_facts:
    gather: [platform, gpus]

- name: Look at the recorded tree of another machine
  forja.gpu.gpu_facts:
    root: /srv/machines/hgx-h100
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to C(ansible_facts).
  returned: always
  type: dict
  contains:
    gpu:
      description: Everything this module knows. Each key is there when its subset was gathered.
      type: dict
      returned: always
      contains:
        platform:
          description:
            - C(kind) is V(bare_metal), V(vm), V(wsl2), V(wsl1), V(jetson), V(azure) or V(container); C(evidence) lists what says so.
            - C(azure) has size, location, gpu_model, gpu_count, gpu_share (such as 1/6), gpu_memory_gib (of one GPU), driver, fabric,
              retired, retired_on, note and secure_boot; from the metadata service and a shipped table of sizes.
            - C(jetson) has model, module, module_name, soc, family, compute_capability, l4t, jetpack and cuda; from the device tree and
              C(/etc/nv_tegra_release).
            - C(wsl) has kernel, dxg (whether C(/dev/dxg) is there), library_folder, systemd (running) and interop.
          type: dict
          returned: subset platform
          sample: {kind: bare_metal, evidence: ["no sign of a hypervisor, a container or WSL"], azure: null, jetson: null, wsl: null}
        gpus:
          description: One record a GPU of NVIDIA, AMD or Intel, in the order of PCI addresses.
          type: list
          elements: dict
          returned: subset gpus
          contains:
            address: {description: "PCI address as in sysfs, on WSL2 that of Windows; null on most Jetsons.", type: str}
            vendor: {description: "V(nvidia), V(amd) or V(intel).", type: str}
            pci_id: {description: "Vendor and device id, as V(10de:2330).", type: str}
            subsystem_id: {description: Vendor and device id of the board., type: str}
            pci_class: {description: "V(0300), V(0302), V(0380) or V(1200).", type: str}
            name: {description: "Product name from the shipped table of ids, of others the driver's.", type: str}
            chip: {description: "Chip, as V(GH100).", type: str}
            architecture: {description: "V(Hopper) and so on; null when neither the table nor the driver tells.", type: str}
            compute_capability: {description: "CUDA compute capability, as V(9.0), from the driver, else from the chip.", type: str}
            integrated: {description: "Part of the processor, with no memory of its own.", type: bool}
            virtual_function: {description: An SR-IOV function of another GPU., type: bool}
            driver: {description: "Bound kernel driver (nvidia, nouveau, vfio-pci, amdgpu, nvgpu, dxgkrnl), null for none.", type: str}
            numa_node: {description: "NUMA node, null when the firmware does not tell.", type: int}
            iommu_group: {description: IOMMU group., type: str}
            device_nodes: {description: The nodes under C(/dev) of this GPU alone., type: list}
            index: {description: "NVML's number of the GPU; unstable, use uuid or address.", type: int}
            uuid: {description: UUID from NVML., type: str}
            driver_name: {description: Product name that the driver reports., type: str}
            memory_mib: {description: "Memory in MiB, from NVML; on Jetsons the memory shared with the processor.", type: int}
            persistence: {description: Persistence mode., type: bool}
            ecc: {description: "C(current) and C(pending), null without ECC.", type: dict}
            mig:
              description:
                - C(capable), C(mode) and C(pending) (V(enabled) or V(disabled)), and C(instances). Null when NVML was not asked,
                  or by a pynvml from before MIG.
                - An instance has gpu_instance, profile, profile_id, memory_mib, placement (C(start) and C(size) in memory slices) and
                  devices, each with compute_instance, profile and uuid.
              type: dict
            processes:
              description: "Processes with a context on the GPU, from NVML: pid, type, memory_mib, gpu_instance, compute_instance."
              type: list
        nvswitch: {description: "NVSwitches on the PCI bus.", type: int, returned: subset gpus}
        infiniband: {description: Whether there is an InfiniBand adapter or port., type: bool, returned: subset gpus}
        driver:
          description:
            - "C(installed_version), C(loaded_version) and C(library_version); C(mismatch) when the last two differ. C(library_path)."
            - C(flavour) is V(open) or V(proprietary); C(source) is V(distribution), V(nvidia_repository), V(run), V(wsl) or V(l4t), told
              from the packages' maintainers and version suffixes.
            - C(packages) holds names and versions (dpkg only); C(kernels) one record a kernel with release, running, headers, module,
              version, flavour, dkms (V(added), V(built) or V(installed)) and dkms_version; C(kernel_headers) is that of the running one.
            - C(reboot_required) with C(reboot_reasons), never in WSL and containers; C(rocm_version) of AMD's stack.
          type: dict
          returned: subset driver
        secure_boot:
          description: Whether the firmware enforces Secure Boot; null when it cannot be told.
          type: bool
          returned: subset driver
        nouveau: {description: "C(loaded), C(blacklisted), C(blacklisted_by).", type: dict, returned: subset driver}
        nvml:
          description: "C(state) (V(answered), V(not_asked), V(broken), V(hangs)), reason, driver_version, nvml_version, cuda_version."
          type: dict
          returned: subset nvml
        holders:
          description:
            - By PCI address the processes that have the GPU open, each with pid, name, command, unit, container and nodes.
            - The key V(shared) has those that hold C(/dev/nvidiactl) and other nodes of no single GPU, and on Jetsons and WSL2 all.
            - Arguments of commands are left out, except a script's path.
          type: dict
          returned: subset holders
        recommended:
          description:
            - C(driver) is V(none), V(open), V(proprietary), V(grid) or V(rocm); C(branch) such as V(595); C(fabric_manager) true or false;
              C(cuda_wheel) such as V(cu130), for pip.
            - C(reasons) has one sentence for each of them.
          type: dict
          returned: subset recommended
        problems:
          description: What a person should look at, each with C(name) and C(message).
          type: list
          elements: dict
          returned: always
        summary:
          description: All of it in one line for a person, problems first.
          type: str
          returned: always
          sample: RTX 5060 (nouveau); open driver 595 recommended
ansible_stats:
  description: The summary as a custom statistic.
  returned: with O(report)
  type: dict
"""

from functools import partial
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, respawn_module

from ..module_utils.forja.facts import survey as gpu_survey
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.nvml import access as nvml_access

IMDS_ENDPOINT = "http://169.254.169.254"  # link-local: the same for every Azure VM
MAX_TIMEOUT = 3600


def argument_spec() -> Dict[str, Any]:
    return {
        "root": {"type": "path", "default": "/"},
        "gather": {"type": "list", "elements": "str", "choices": list(gpu_survey.SUBSETS), "default": list(gpu_survey.SUBSETS)},
        "imds_endpoint": {"type": "str", "default": IMDS_ENDPOINT},
        "imds_timeout": {"type": "float", "default": 1.0},
        "nvml_timeout": {"type": "float", "default": 20.0},
        "report": {"type": "bool", "default": False},
    }


def means(files: HostFiles, params: Dict[str, Any]) -> gpu_survey.Means:
    def ask_azure() -> str:
        from ..module_utils.forja.facts import azure

        if files.root != "/" and params["imds_endpoint"] == IMDS_ENDPOINT:
            raise ForjaError("another tree than / is read, and imds_endpoint is not set")
        return str(azure.fetch(params["imds_endpoint"], params["imds_timeout"]))

    reason = "not gathered" if "nvml" not in params["gather"] else nvml_access.why_not(files)
    if reason:
        return gpu_survey.Means(ask_azure, None, reason)
    pynvml = nvml_access.binding(files, has_respawned, respawn_module)
    if pynvml is None:
        return gpu_survey.Means(ask_azure, None, "no Python of this host has pynvml")
    from ..module_utils.forja.facts import nvml

    return gpu_survey.Means(ask_azure, partial(nvml.read_within, pynvml, params["nvml_timeout"]))


def report(facts: Dict[str, Any]) -> Dict[str, Any]:
    """Render the facts in the form in which roles report."""
    driver = facts.get("driver") or {}
    return {
        "summary": facts["summary"],
        "version": driver.get("loaded_version") or driver.get("installed_version") or "",
        "endpoints": [],
        "reboot": driver.get("reboot_reasons") or [],
        "problems": [problem["message"] for problem in facts["problems"]],
    }


def root_of(params: Dict[str, Any]) -> HostFiles:
    for name in ("imds_timeout", "nvml_timeout"):
        if not 0 < params[name] <= MAX_TIMEOUT:
            raise ForjaError(f"{name} is {params[name]:g}: a time above 0 and up to {MAX_TIMEOUT} seconds is wanted.")
    files = HostFiles(params["root"])
    files.names("/")
    if not files.is_folder("/") or files.denied:  # else what may not be read would pass for a host without a GPU
        raise ForjaError(f"root: {params['root']} is not a folder that can be read.")
    return files


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        files = root_of(module.params)
        facts = gpu_survey.survey(files, means(files, module.params), module.params["gather"])
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    stats = {"data": {"forja": {"gpu": report(facts)}}, "per_host": True, "aggregate": True}
    module.exit_json(changed=False, ansible_facts={"gpu": facts}, **({"ansible_stats": stats} if module.params["report"] else {}))


if __name__ == "__main__":
    main()
