# SPDX-License-Identifier: Apache-2.0
"""Parse and compute names of MIG profiles as NVIDIA's libraries do: 1g.5gb, 1g.5gb+me, 1g.24gb-me, 1c.3g.20gb.

Source: go-nvlib pkg/nvlib/device/mig_profile.go, which mig-parted and the Kubernetes device plugin use. The driver's own
name (in NVML's v2 structures) is not used, so that a file for one tool is a file for the other.
"""

import re
from typing import NamedTuple, Tuple

from ...host.errors import ForjaError

# By NVML_GPU_INSTANCE_PROFILE_*: REV1 has all media engines of its size, REV2 is the double-memory one and has no mark.
_ATTRIBUTES = {7: "+me", 8: "+me", 10: "+gfx", 11: "+gfx", 12: "+gfx", 13: "-me", 14: "-me", 15: "+me.all", 16: "+me.all", 17: "+gfx"}
_LONGEST = 60
_MOST_SLICES = 99  # far more than any GPU has
_PATTERN = re.compile(r"(?:([0-9]+)c\.)?([0-9]+)g\.([0-9]+)gb(?:([+-])(.*))?", re.ASCII)
_ATTRIBUTE = re.compile(r"(?![0-9.])[A-Za-z0-9.]*[A-Za-z0-9]", re.ASCII)


class BadNameError(ForjaError):
    """Raised for what is not the name of a MIG profile; the message shows what one looks like."""


class Name(NamedTuple):
    compute: int  # compute slices of the compute instance
    slices: int  # compute slices of the GPU instance
    gigabytes: int
    plus: Tuple[str, ...]  # sorted: their order in the text means nothing
    minus: Tuple[str, ...]

    @property
    def profile(self) -> str:
        """The GPU instance's name: 3g.20gb for 1c.3g.20gb."""
        marks = "+" + ",".join(self.plus) if self.plus else "-" + ",".join(self.minus) if self.minus else ""
        return f"{self.slices}g.{self.gigabytes}gb{marks}"

    @property
    def text(self) -> str:
        return ci_name(self.profile, self.compute)


def attributes(index: int) -> str:
    """Return what NVML's profile index adds to the name: nothing, +me, +me.all, +gfx or -me."""
    return _ATTRIBUTES.get(index, "")


def gi_name(slices: int, memory_mib: int, total_bytes: int, marks: str = "") -> str:
    """Compute the name of a GPU instance profile. `total_bytes`: the whole GPU, by nvmlDeviceGetMemoryInfo (first version)."""
    if total_bytes <= 0:
        raise ForjaError(f"A GPU with {total_bytes} bytes of memory has no profiles.")
    eighths = -(-(memory_mib << 20) * 8 // total_bytes)  # in integers: as exact as it can be
    gigabytes = (eighths * -(-total_bytes >> 30) * 2 + 8) // 16  # halves are rounded up, as Go's math.Round does and Python's does not
    return f"{slices}g.{gigabytes}gb{marks}"


def ci_name(profile: str, compute: int) -> str:
    """Compute the name of a MIG device: 1c.3g.20gb, or 3g.20gb when the compute instance fills its GPU instance."""
    return profile if profile.startswith(f"{compute}g.") else f"{compute}c.{profile}"


def compute_sizes(slices: int) -> Tuple[int, ...]:
    """List how many slices a compute instance may have in a GPU instance of `slices`."""
    return tuple(size for size in range(1, slices + 1) if size == slices or 2 * size <= slices + 1)


def parse(text: str) -> Name:
    """Parse a name. It accepts what go-nvlib accepts, such as 01g.5gb and 7c.7g.40gb. Raises BadNameError."""
    found = _PATTERN.fullmatch(text)
    if len(text) > _LONGEST:
        raise BadNameError(f"{text[:_LONGEST]!r}... is too long for the name of a MIG profile.")
    if not found:
        raise BadNameError(f"{text!r} is not the name of a MIG profile; such names look like 1g.5gb, 1g.5gb+me or 1c.3g.20gb.")
    compute, slices, gigabytes, sign, rest = found.groups()
    marks = tuple(rest.split(",")) if sign else ()
    if not all(_ATTRIBUTE.fullmatch(mark) for mark in marks) or len(set(marks)) != len(marks):
        raise BadNameError(f"{text!r} is not the name of a MIG profile: after {sign} come names such as me or gfx, none twice.")
    name = Name(int(compute or slices), int(slices), int(gigabytes), tuple(sorted(marks)) if sign == "+" else (),
                tuple(sorted(marks)) if sign == "-" else ())
    if name.slices > _MOST_SLICES:
        raise BadNameError(f"{text!r}: no GPU has a profile of {name.slices} slices.")
    if not 0 < name.compute <= name.slices:
        raise BadNameError(f"{text!r} has more compute slices than its GPU instance has, or none.")
    return name
