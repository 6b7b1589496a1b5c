# SPDX-License-Identifier: Apache-2.0
"""What a GPU that can do MIG offers and holds: profiles, GPU instances, compute instances. Facts only, no decisions.

A GPU instance (GI) owns memory slots and compute slices; a compute instance (CI) owns compute slices inside one.
One CI is what NVIDIA calls a MIG device. Slots and slices are counted as NVML counts them.
"""

from typing import NamedTuple, Optional, Tuple


class Placement(NamedTuple):
    """Memory slots of a GPU instance, or compute slices of a compute instance within its GPU instance."""

    start: int
    size: int


class Profile(NamedTuple):
    """A kind of GPU instance, as this card and driver offer it."""

    index: int  # type: ignore[assignment] # hides tuple.index. NVML_GPU_INSTANCE_PROFILE_*, which only the profile query takes
    id: int  # what every other call takes, and what `nvidia-smi mig -lgip` prints
    name: str  # as NVIDIA's own libraries compute it: 1g.5gb, 1g.5gb+me, 1g.24gb-me
    slices: int  # compute slices
    count: int  # type: ignore[assignment] # hides tuple.count. How many fit on an empty card
    memory_mib: int
    multiprocessors: int
    engines: Tuple[int, int, int, int]  # decoders, encoders, JPEG, OFA
    placements: Tuple[Placement, ...]  # of this very board; empty when not asked


class Compute(NamedTuple):
    """A compute instance that exists."""

    id: int
    profile: int
    slices: int
    placement: Optional[Placement]  # None when not asked


class Instance(NamedTuple):
    """A GPU instance that exists. Without compute instances it is an orphan: it takes memory and serves nobody."""

    id: int
    profile: int  # Profile.id
    placement: Placement
    compute: Tuple[Compute, ...]


class Card(NamedTuple):
    """What one GPU offers."""

    profiles: Tuple[Profile, ...]

    @property
    def slots(self) -> int:
        """Memory slots, such as 8, 4, or 12 on an RTX PRO 6000."""
        return max(place.start + place.size for profile in self.profiles for place in profile.placements)

    @property
    def slices(self) -> int:
        """Compute slices, such as 7 or 4."""
        return max((profile.slices for profile in self.profiles), default=0)

    def by_id(self, number: int) -> Profile:
        for profile in self.profiles:
            if profile.id == number:
                return profile
        raise KeyError(number)


class Gpu(NamedTuple):
    """One GPU as found. Addresses look like 0000:07:00.0, ids like 0x20B010DE, as mig-parted writes them."""

    index: int  # type: ignore[assignment] # hides tuple.index
    address: str
    device: str
    subsystem: str
    name: str
    total_bytes: int
    capable: bool
    enabled: bool
    pending: bool
    profiles: Tuple[Profile, ...]
    instances: Tuple[Instance, ...]
    obstacle: str = ""  # why it cannot be planned although it can do MIG

    @property
    def place(self) -> str:
        return f"GPU {self.index} ({self.address})"


class WantedInstance(NamedTuple):
    """One GPU instance of the list form, wanted exactly so."""

    profile: str  # Profile.name
    start: Optional[int]  # its first memory slot; None leaves it to the planner
    compute: Tuple[int, ...]  # slices of its compute instances in the order in which they are made; never empty


class Wanted(NamedTuple):
    """What one GPU is to be. `counts` and `instances` exclude each other; with neither, an enabled GPU is left empty."""

    enabled: bool
    counts: Tuple[Tuple[str, int, int], ...] = ()  # profile name, slices of the compute instance, how many of them (> 0)
    instances: Tuple[WantedInstance, ...] = ()
