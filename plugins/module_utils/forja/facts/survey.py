# SPDX-License-Identifier: Apache-2.0
"""All GPU facts of a host, put together from the readers beside this file. What it needs from outside is handed in."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from ..host import deadline
from ..host.errors import ForjaError
from ..host.files import HostFiles
from . import boot as boot_state
from . import dpkg as packages
from . import driver as driver_state
from . import pci, recommend
from . import platform as host_platform
from . import summary as gpu_summary
from .models import architecture_of_capability

# Readers that most hosts do not need are imported where they are used: packed modules are compiled anew at each run.

# What a stuck driver, or a process that it holds, may never answer is asked in a child process, for so many seconds. A GPU that
# sleeps, or is being initialized, may need some.
DRIVER_SECONDS = 10.0
HOLDERS_SECONDS = 4.0

SUBSETS = ("platform", "gpus", "driver", "nvml", "holders", "recommended")


class Means(NamedTuple):
    """What the survey may use besides files: each returns its answer or raises its own error.

    `ask_nvml` returns what nvml.read returns, or raises ForjaError, DeadlineError or ChildError; None means that NVML is
    not to be asked, for the reason in `no_nvml`. `ask_azure` returns the instance metadata's text or raises ForjaError.
    """

    ask_azure: Callable[[], str]
    ask_nvml: Optional[Callable[[], Dict[str, Any]]]
    no_nvml: str = "not asked"


def survey(files: HostFiles, means: Means, gather: Sequence[str] = SUBSETS) -> Dict[str, Any]:
    """The facts, with only the subsets in `gather`, and always `problems` and `summary`."""
    problems: List[Dict[str, str]] = []

    def report(name: str, sentence: str) -> None:
        problems.append({"name": name, "message": sentence})

    found = host_platform.detect(files)
    known = packages.installed(files)
    azure_record = jetson_record = None
    if found.is_azure:
        from . import azure

        azure_record, sentences = azure.record(means.ask_azure)
        for sentence in sentences:
            report("azure", sentence)
    if found.is_jetson:
        from . import jetson

        l4t = known.get("nvidia-l4t-core")
        jetson_record, sentences = jetson.record(files, l4t.version if l4t else None)
        for sentence in sentences:
            report("jetson", sentence)

    scan = pci.scan(files)
    gpus = scan.gpus
    if scan.unreadable:
        report("pci_unreadable", f"sysfs gives no readable class or ids for {', '.join(scan.unreadable)}: the device may have failed.")
    for gpu in gpus:
        # Of AMD's the accelerators only: graphics that are not in the table are the processors' own.
        asked = gpu["vendor"] == "nvidia" or (gpu["vendor"] == "amd" and gpu["pci_class"] == "1200")
        if asked and gpu["architecture"] is None and gpu["chip"] is None:
            report("gpu_unknown", f"The GPU {gpu['pci_id']} at {gpu['address']} is not in Forja's table of ids.")
    if azure_record and len(gpus) < (azure_record["gpu_count"] or 0):
        report("azure", f"The Azure size {azure_record['size']} has {azure_record['gpu_count']} GPUs, the PCI bus of this VM shows "
                        f"{len(gpus)}: it did not get all that it should have.")
    _add_driver_nodes(files, gpus, report)
    if jetson_record is not None:
        _add_jetson_gpu(gpus, jetson.gpu(jetson_record, files))

    driver = driver_state.read(files, found.kind, gpus, known)
    for name, sentence in driver_state.problems(driver, found.kind, files):
        report(name, sentence)

    answer = {"state": "not_asked", "reason": means.no_nvml, "driver_version": None, "nvml_version": None, "cuda_version": None}
    if "nvml" in gather:
        answer = _ask_nvml(means, gpus, found.kind, report)
    if found.kind == "wsl2" and not gpus and found.wsl and found.wsl["dxg"]:
        gpus.extend(_wsl_gpus(files))

    secure_boot = boot_state.secure_boot(files, found.kind == "container")
    if azure_record and secure_boot is None:
        secure_boot = azure_record["secure_boot"]
    loaded = driver["loaded_version"] or answer["driver_version"]
    facts = recommend.Facts(found.kind, gpus, azure_record, jetson_record, scan.nvswitch, loaded)
    recommended, sentences_by_name = recommend.recommend(facts)
    for name, sentence in sentences_by_name:
        report(name, sentence)

    by_gpu: Dict[str, List[Dict[str, Any]]] = {}
    if "holders" in gather and gpus:
        from . import holders

        try:
            held = holders.Holders(*deadline.call(lambda: list(holders.find(files, gpus)), HOLDERS_SECONDS))
        except (deadline.ChildError, deadline.DeadlineError):
            held = holders.Holders({}, 0, False)
        by_gpu = held.by_gpu
        if held.hidden:
            report("holders_partial", f"The open files of {held.hidden} processes may not be read: run as root to see every holder.")
        if not held.finished:
            report("holders_partial", "The search for holders did not end in time; the list is not complete.")

    platform = {"kind": found.kind, "evidence": found.evidence, "azure": azure_record, "jetson": jetson_record, "wsl": found.wsl}
    by_subset: Dict[str, Dict[str, Any]] = {
        "platform": {"platform": platform},
        "gpus": {"gpus": gpus, "nvswitch": scan.nvswitch, "infiniband": pci.has_infiniband(files, scan)},
        "driver": {"driver": driver, "secure_boot": secure_boot, "nouveau": boot_state.nouveau(files)},
        "nvml": {"nvml": answer},
        "holders": {"holders": by_gpu},
        "recommended": {"recommended": recommended},
    }
    everything: Dict[str, Any] = {"problems": problems}
    for part in by_subset.values():
        everything.update(part)
    facts_out: Dict[str, Any] = {"problems": problems, "summary": gpu_summary.line(everything)}
    for subset in SUBSETS:
        if subset in gather:
            facts_out.update(by_subset[subset])
    return facts_out


def _add_driver_nodes(files: HostFiles, gpus: List[Dict[str, Any]], report: Callable[[str, str], None]) -> None:
    driven = [gpu for gpu in gpus if gpu["driver"] == "nvidia"]
    if not driven or not files.exists(pci.DRIVER):
        return
    try:
        nodes = deadline.call(lambda: [pci.driver_node(files, gpu["address"]) for gpu in driven], DRIVER_SECONDS)
    except (deadline.ChildError, deadline.DeadlineError) as error:
        report("driver_hangs", f"The NVIDIA driver answers no question in {pci.DRIVER} ({error}): it may be stuck, look at the kernel "
                               "log for Xid and "
               "NVRM lines.")
        return
    for gpu, node in zip(driven, nodes):
        if node:
            gpu["device_nodes"].append(node)


def _add_jetson_gpu(gpus: List[Dict[str, Any]], made: Dict[str, Any]) -> None:
    """Thor shows its GPU on PCI as well; older Jetsons only in the device tree."""
    own = next((gpu for gpu in gpus if gpu["vendor"] == "nvidia" and gpu["integrated"]), None)
    if own is None:
        gpus.append(made)
    else:
        own.update(name=made["name"], memory_mib=made["memory_mib"], compute_capability=made["compute_capability"])


def _wsl_gpus(files: HostFiles) -> List[Dict[str, Any]]:
    """Without NVML there is no name to be had; the driver store of Windows says whether NVIDIA is there at all."""
    if not any(name.startswith("nv") for name in files.names("/usr/lib/wsl/drivers")):
        return []
    gpu = pci.blank_gpu()
    gpu.update(vendor="nvidia", name="NVIDIA GPU of the Windows host", driver="dxgkrnl")
    return [gpu]


def _ask_nvml(means: Means, gpus: List[Dict[str, Any]], kind: str, report: Callable[[str, str], None]) -> Dict[str, Any]:
    nothing = {"driver_version": None, "nvml_version": None, "cuda_version": None}
    if means.ask_nvml is None:
        return dict(nothing, state="not_asked", reason=means.no_nvml)
    try:
        answer = means.ask_nvml()
    except deadline.DeadlineError as error:
        report("nvml_hangs", f"NVML gave no answer ({error}): the driver may be stuck, look at the kernel log for Xid and NVRM lines.")
        return dict(nothing, state="hangs", reason=str(error))
    except ForjaError as error:
        sentence = f"Asking NVML failed: {error}." if isinstance(error, deadline.ChildError) else str(error)
        report("nvml_broken", sentence)
        return dict(nothing, state="broken", reason=sentence)
    lost = _unlisted(gpus, answer["gpus"], kind) or [f"index {index}" for index in answer["lost"]]
    if lost:
        report("gpu_lost", f"The NVIDIA driver does not answer for the GPU at {', '.join(lost)}: it may be lost, look at the kernel "
                           "log for Xid and "
               "NVRM lines.")
    _join(gpus, answer["gpus"], kind)
    if any(instance["placement"] is None for news in answer["gpus"] if news["mig"] for instance in news["mig"]["instances"]):
        report("mig_partial", "The driver does not tell this user all about its MIG instances: run as root to see them.")
    state = {name: answer[name] for name in nothing}
    return dict(state, state="answered", reason=None)


def _unlisted(gpus: List[Dict[str, Any]], told: List[Dict[str, Any]], kind: str) -> List[str]:
    """Addresses of GPUs that the driver has and does not list: one that fell off the bus, or did not start."""
    if kind in ("container", "jetson"):
        return []  # a container sees every GPU on PCI and is given some; Jetsons' NVML tells no address
    listed = [news["address"] for news in told]
    return [gpu["address"] for gpu in gpus if gpu["driver"] == "nvidia" and not gpu["virtual_function"] and gpu["address"] not in listed]


def _join(gpus: List[Dict[str, Any]], told: List[Dict[str, Any]], kind: str) -> None:
    """Add what NVML told to the records with the same PCI address; a GPU that only NVML knows gets its own record."""
    by_address = {gpu["address"]: gpu for gpu in gpus if gpu["address"]}
    alone = [gpu for gpu in gpus if gpu["vendor"] == "nvidia" and not gpu["address"]]
    for news in told:
        gpu = by_address.get(news["address"])
        if gpu is None and kind == "jetson" and alone:
            gpu = alone.pop(0)
        if gpu is None:
            gpu = pci.blank_gpu()
            gpu.update(vendor="nvidia", name=news["driver_name"], address=news["address"])
            gpu["driver"] = "dxgkrnl" if kind == "wsl2" else None
            gpus.append(gpu)
        for name, value in news.items():
            if name != "address" and (value is not None or name not in ("memory_mib", "compute_capability")):
                gpu[name] = value
        if news["driver_name"] and gpu["pci_id"] and gpu["chip"] is None:
            gpu["name"] = news["driver_name"]  # the table of ids has none
        if gpu["architecture"] is None and gpu["compute_capability"]:
            gpu["architecture"] = architecture_of_capability(gpu["compute_capability"])
