# SPDX-License-Identifier: Apache-2.0
"""Place compute instances (CIs) inside one GPU instance (GI), and change one content to another with the fewest destroyed.

Sizes and starts are those that NVML lists on every card we know (GPU instances of 1, 2, 3, 4 and 7 slices): 1 slice anywhere,
2 at even starts, 3 at 0 or 4, 4 at 0, the whole at 0. Left to itself the driver takes the start that leaves most others
possible, then the lowest (kmigmgrGetFreeCTSId in NVIDIA's open kernel modules). We take the same where it leads to the goal,
so that also a driver that cannot be told a start does what was planned. That GSP firmware keeps to that rule is inferred.
"""

from functools import lru_cache
from itertools import combinations
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from .card import Compute, Instance
from .decision import NewCompute
from .names import compute_sizes

_STEPS = {1: 1, 2: 2, 3: 4, 4: 4}  # by size: which multiples it may start at


class Change(NamedTuple):
    """The way from what a GPU instance holds to what is wanted of it."""

    remove: Tuple[Compute, ...]
    add: Tuple[NewCompute, ...]
    kept: int


@lru_cache(maxsize=None)
def starts(slices: int, size: int) -> Tuple[int, ...]:
    """List where a compute instance of this size may start in a GPU instance of `slices`."""
    if size not in compute_sizes(slices):
        return ()
    return (0,) if size == slices else tuple(range(0, slices - size + 1, _STEPS.get(size, slices)))


def _mask(size: int, start: int) -> int:
    return ((1 << size) - 1) << start


@lru_cache(maxsize=None)
def pack(slices: int, taken: int, sizes: Tuple[int, ...]) -> Optional[Tuple[int, ...]]:
    """Find starts for `sizes`, made in this order, beside the slices of the mask `taken`. None when they do not fit."""
    if not sizes:
        return ()
    free = [_mask(size, start) for size in compute_sizes(slices) for start in starts(slices, size) if not _mask(size, start) & taken]

    def spoils(start: int) -> Tuple[int, int]:
        return sum(1 for mask in free if mask & _mask(sizes[0], start)), start

    for start in sorted((candidate for candidate in starts(slices, sizes[0]) if not _mask(sizes[0], candidate) & taken), key=spoils):
        rest = pack(slices, taken | _mask(sizes[0], start), sizes[1:])
        if rest is not None:
            return (start,) + rest
    return None


@lru_cache(maxsize=None)
def contents(slices: int) -> Tuple[Tuple[int, ...], ...]:
    """List everything that a GPU instance of `slices` can hold, the largest first in each; not the empty content."""
    found: List[Tuple[int, ...]] = []

    def extend(content: Tuple[int, ...]) -> None:
        for size in reversed(compute_sizes(slices)):
            if (not content or size <= content[-1]) and pack(slices, 0, content + (size,)) is not None:
                found.append(content + (size,))
                extend(content + (size,))

    extend(())
    return tuple(found)


def masks_of(instance: Instance, slices: int) -> Dict[int, int]:
    """Return the mask of slices that each compute instance takes, by its id; where NVML was not asked, by the driver's rule."""
    known = {part.id: _mask(part.placement.size, part.placement.start) for part in instance.compute if part.placement is not None}
    unknown = sorted(part for part in instance.compute if part.placement is None)
    guess = pack(slices, sum(known.values()), tuple(part.slices for part in unknown))
    for number, part in enumerate(unknown):  # An impossible content can be anywhere: nothing is made beside it.
        known[part.id] = _mask(slices, 0) if guess is None else _mask(part.slices, guess[number])
    return known


def change(instance: Instance, slices: int, wanted: Sequence[int], ordered: bool) -> Optional[Change]:
    """Find the way to `wanted` that destroys the fewest. `ordered`: by id, the compute instances have the sizes in this order."""
    masks = masks_of(instance, slices)
    existing = sorted(instance.compute)
    for count in range(min(len(existing), len(wanted)), -1, -1):
        for kept in combinations(existing, count):
            missing = _missing(kept, wanted, ordered)
            if missing is None:
                continue
            begin = pack(slices, sum(masks[part.id] for part in kept), missing)
            if begin is not None:
                return Change(tuple(part for part in existing if part not in kept),
                              tuple(NewCompute(size, start) for size, start in zip(missing, begin)), count)
    return None


def _missing(kept: Sequence[Compute], wanted: Sequence[int], ordered: bool) -> Optional[Tuple[int, ...]]:
    """Return the sizes still to be made, in their order; None when what is kept is not part of what is wanted."""
    rest = list(wanted)
    if not ordered:
        for part in kept:
            if part.slices not in rest:
                return None
            rest.remove(part.slices)
        return tuple(sorted(rest, reverse=True))
    ids = {part.id: part.slices for part in kept}
    free = [number for number in range(len(wanted) + len(kept)) if number not in ids][:len(wanted) - len(kept)]
    order = sorted(list(ids) + free)  # A new one gets the lowest free id.
    if any(number in ids and ids[number] != size for number, size in zip(order, wanted)):
        return None
    return tuple(size for number, size in zip(order, wanted) if number not in ids)
