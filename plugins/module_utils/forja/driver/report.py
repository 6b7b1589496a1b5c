# SPDX-License-Identifier: Apache-2.0
"""What a run tells of the driver at its end: why a reboot is required, and the line of the summary. Pure."""

from typing import Any, Dict, List, Optional, Sequence

from .plan import Decision


def reboot_reasons(facts: Dict[str, Any], version: Optional[str], flavour: Optional[str] = None) -> List[str]:
    """Why the GPUs have the driver of `version` and `flavour` only after a reboot; without a version, why nouveau has them only then."""
    loaded = facts["driver"]["loaded_version"]
    if not version:
        return [f"NVIDIA {loaded} is still loaded"] if loaded else []
    taken = sorted(str(gpu["address"]) for gpu in facts["gpus"] if gpu["vendor"] == "nvidia" and gpu["driver"] == "nouveau")
    if taken:
        return [f"nouveau holds {', '.join(taken)}"]
    if loaded != version:
        return [f"NVIDIA {loaded} is loaded and not {version}" if loaded else f"NVIDIA {version} is not loaded yet"]
    if flavour and facts["driver"]["flavour"] not in (flavour, None):
        return [f"the {facts['driver']['flavour']} module is loaded and not the {flavour} one"]
    return []


def summary(decision: Decision, distribution: str, reasons: List[str], blacklisted_by: Sequence[str] = (), booted: bool = False) -> str:
    """The driver in one line for a person. After a removal nouveau is what the host has, unless files of somebody else's keep it away."""
    sources = {"distribution": distribution, "nvidia": "NVIDIA's repository", "grid": "Microsoft's GRID build"}
    line = {
        "none": "no driver: " + decision.reason,
        "keep": "left alone: " + " But: ".join([decision.reason] + decision.notes[:1]),
        "stage_mok": "not yet: a key waits to be enrolled at the console",
        "remove": "removed",
        "install": f"NVIDIA {decision.version} ({decision.flavour}) from {sources.get(decision.source or '')}",
    }[decision.action]
    if decision.action == "remove" and blacklisted_by:
        line += "; nouveau cannot load, which is not this role's doing: see " + ", ".join(blacklisted_by)
    if booted:
        return line + "; not in use: " + "; ".join(reasons)
    return line + (f"; reboot required: {'; '.join(reasons)}" if reasons else "")
