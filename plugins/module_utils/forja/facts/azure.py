# SPDX-License-Identifier: Apache-2.0
"""What an Azure VM's size says about its GPUs, and how the VM is asked for its size."""

import json
import re
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..host.errors import ForjaError
from .azure_sizes import SIZES, Family

# The oldest version that has every field read here; newer services still answer it.
QUERY = "/metadata/instance/compute?api-version=2021-02-01&format=json"
_GPU_FAMILY = re.compile(r"standard_(nc|ncc|nd|nv|ng)\d", re.I)


def fetch(endpoint: str, timeout: float) -> str:
    """The instance's compute metadata, never through a proxy. The service is on a link-local address."""
    import http.client
    import urllib.request  # costs 30 ms: only Azure VMs pay for it

    try:
        request = urllib.request.Request(endpoint.rstrip("/") + QUERY, headers={"Metadata": "true"})  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=timeout) as answer:
            return str(answer.read(262144).decode("utf-8", "replace"))
    except (OSError, ValueError, http.client.HTTPException) as error:  # the last one: what answers speaks no HTTP
        raise ForjaError(f"the metadata service at {endpoint} did not answer within {timeout} s: {error}") from error


def record(ask: Callable[[], str]) -> Tuple[Dict[str, Any], List[str]]:
    """The `azure` record and the problems found; `ask` returns the metadata or raises ForjaError."""
    try:
        compute = json.loads(ask())
        if not isinstance(compute, dict):
            raise ValueError("no JSON object")
    except (ForjaError, ValueError, RecursionError) as error:
        hint = f"The size of this Azure VM is not known ({error}); the driver is chosen from PCI alone, which cannot tell a vGPU."
        return _fields(None, None, None, None), [hint]
    size = str(compute.get("vmSize") or "") or None
    family = size_family(size)
    problems: List[str] = []
    if family is None and size and _GPU_FAMILY.match(size):
        problems.append(f"The Azure size {size} is not in Forja's table; the driver is chosen from PCI alone.")
    if family is not None and family.retired:
        problems.append(f"Azure retired the size {size} ({family.retired}): move to a newer one before it is taken away.")
    profile = compute.get("securityProfile")
    secure = profile.get("secureBootEnabled") if isinstance(profile, dict) else None
    secure_boot = {"true": True, "false": False}.get(str(secure).lower())
    return _fields(size, family, str(compute.get("location") or "") or None, secure_boot), problems


def size_family(size: Optional[str]) -> Optional[Family]:
    """The table's line for a size such as Standard_NC24ads_A100_v4, upper or lower case; None when it has none."""
    name = re.sub(r"^standard_", "", (size or "").lower())
    return next((family for family in SIZES if re.match(f"(?:{family.pattern})$", name)), None)


def _fields(size: Optional[str], family: Optional[Family], location: Optional[str], secure_boot: Optional[bool]) -> Dict[str, Any]:
    return {
        "size": size,
        "location": location,
        "gpu_model": family.model if family else None,
        "gpu_count": family.gpus if family else None,
        "gpu_share": family.share if family else None,
        "gpu_memory_gib": family.memory_gib if family else None,
        "driver": family.driver if family else None,
        "fabric": family.fabric if family else None,
        "retired": bool(family.retired) if family else None,
        "retired_on": family.retired if family else None,
        "note": family.note if family else None,
        "secure_boot": secure_boot,
    }
