# SPDX-License-Identifier: Apache-2.0
"""Who stands in the way of a plan: the processes on what it would remove, and on the whole GPU where its mode changes."""

from typing import Any, Dict, List, Sequence

from ..facts.holders import find, process
from ..host.files import HostFiles
from .nvml.reader import Reader
from .plan import GpuPlan
from .steps import REMOVE_COMPUTE, REMOVE_INSTANCE


def blockers(gateway: Reader, files: HostFiles, plans: Sequence[GpuPlan], own: int) -> List[Dict[str, Any]]:
    """One record a process and GPU: gpu, pid, name, command, unit, container, and the instances it is on.

    A process on another instance is no reason to wait. `own` is our own pid: NVML itself holds the GPU open.
    """
    found: List[Dict[str, Any]] = []
    changing_mode = [one for one in plans if one.mode_changes]
    for one in plans:
        gone = {step.instance.id for step in one.steps if step.action == REMOVE_INSTANCE and step.instance}
        cut = {
            (step.instance.id, step.compute.id) for step in one.steps if step.action == REMOVE_COMPUTE and step.instance and step.compute
        }
        if not (gone or cut or one.mode_changes):
            continue
        for running in gateway.processes(one.gpu):
            inside = running.gpu_instance
            hit = inside in gone or (inside, running.compute_instance) in cut or inside is None
            # The driver tells of a compute instance or of none: without one, any that goes may be the one in use.
            hit = hit or (running.compute_instance is None and any(inside == instance for instance, _compute in cut))
            if running.pid != own and (hit or one.mode_changes):
                record = dict(process(files, str(running.pid)), gpu=one.gpu.index, gpu_instance=inside)
                found.append(dict(record, compute_instance=running.compute_instance))
    return found + _openers(gateway, files, changing_mode, own, {(record["gpu"], record["pid"]) for record in found})


def _openers(gateway: Reader, files: HostFiles, plans: Sequence[GpuPlan], own: int, known: Any) -> List[Dict[str, Any]]:
    """Who merely has the device open, such as a monitor, which a mode change does not survive either."""
    if not plans:
        return []
    nodes = [
        {"address": one.gpu.address, "integrated": False, "vendor": "nvidia", "device_nodes": [f"/dev/nvidia{gateway.minor(one.gpu)}"]}
        for one in plans
    ]
    open_by = find(files, nodes).by_gpu
    return [
        dict(record, gpu=one.gpu.index, gpu_instance=None, compute_instance=None)
        for one in plans
        for record in open_by[one.gpu.address]
        if record["pid"] != own and (one.gpu.index, record["pid"]) not in known
    ]


def words(record: Dict[str, Any]) -> str:
    """GPU 0, GPU instance 9: python3 train.py (pid 4711, unit train.service)."""
    where = f"GPU {record['gpu']}"
    if record["gpu_instance"] is not None:
        where += f", GPU instance {record['gpu_instance']}"
    owner = [f"pid {record['pid']}"]
    owner += [f"{key} {record[key]}" for key in ("unit", "container") if record[key]]
    return f"{where}: {record['command'] or record['name'] or 'a process'} ({', '.join(owner)})"
