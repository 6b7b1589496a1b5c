# SPDX-License-Identifier: Apache-2.0
"""Find the processes that block a plan: those on what it removes, and those on the whole GPU where its mode changes."""

from typing import Any, Dict, List, Sequence, Set, Tuple

from ..facts.holders import find, process
from ..host.files import HostFiles
from .nvml.reader import Reader
from .plan import GpuPlan
from .steps import REMOVE_COMPUTE, REMOVE_INSTANCE


def blockers(gateway: Reader, files: HostFiles, plans: Sequence[GpuPlan], own: int) -> List[Dict[str, Any]]:
    """Return a record for each process and GPU: gpu, pid, name, command, unit, container, and the instances it is on.

    A process on another instance does not block. `own` is this process: NVML itself holds the GPU open.
    """
    found: List[Dict[str, Any]] = []
    changing_mode = [plan for plan in plans if plan.mode_changes]
    for plan in plans:
        removed = {step.instance.id for step in plan.steps if step.action == REMOVE_INSTANCE and step.instance}
        cut = {
            (step.instance.id, step.compute.id) for step in plan.steps if step.action == REMOVE_COMPUTE and step.instance and step.compute
        }
        if not (removed or cut or plan.mode_changes):
            continue
        for running in gateway.processes(plan.gpu):
            inside = running.gpu_instance
            hit = inside in removed or (inside, running.compute_instance) in cut or inside is None
            # The driver may not report the compute instance; then any that is removed may be the one in use.
            hit = hit or (running.compute_instance is None and any(inside == instance for instance, _compute in cut))
            if running.pid != own and (hit or plan.mode_changes):
                record = dict(process(files, str(running.pid)), gpu=plan.gpu.index, gpu_instance=inside)
                found.append(dict(record, compute_instance=running.compute_instance))
    return found + _openers(gateway, files, changing_mode, own, {(record["gpu"], record["pid"]) for record in found})


def _openers(
    gateway: Reader, files: HostFiles, plans: Sequence[GpuPlan], own: int, known: Set[Tuple[int, int]]
) -> List[Dict[str, Any]]:
    """Processes that only keep the device node open, such as monitors; they block a mode change too."""
    if not plans:
        return []
    nodes = [
        {"address": plan.gpu.address, "integrated": False, "vendor": "nvidia", "device_nodes": [f"/dev/nvidia{gateway.minor(plan.gpu)}"]}
        for plan in plans
    ]
    open_by = find(files, nodes).by_gpu
    return [
        dict(record, gpu=plan.gpu.index, gpu_instance=None, compute_instance=None)
        for plan in plans
        for record in open_by[plan.gpu.address]
        if record["pid"] != own and (plan.gpu.index, record["pid"]) not in known
    ]


def describe(record: Dict[str, Any]) -> str:
    """Render a blocker, such as: GPU 0, GPU instance 9: python3 train.py (pid 4711, unit train.service)."""
    place = f"GPU {record['gpu']}"
    if record["gpu_instance"] is not None:
        place += f", GPU instance {record['gpu_instance']}"
    owner = [f"pid {record['pid']}"]
    owner += [f"{key} {record[key]}" for key in ("unit", "container") if record[key]]
    return f"{place}: {record['command'] or record['name'] or 'a process'} ({', '.join(owner)})"
