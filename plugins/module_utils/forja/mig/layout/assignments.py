# SPDX-License-Identifier: Apache-2.0
"""Assign what is wanted of one profile to its GPU instances: which could stay, and how many would have to be made.

What is wanted of one profile touches another only through slots and budgets, which the solver weighs. Everything here is exact:
what is left out costs no less in any respect than something that is in.
"""

from collections import Counter
from functools import lru_cache
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from .card import Instance, Profile, Wanted
from .compute import Change, change, contents, pack

Sizes = Tuple[int, ...]
Spec = Tuple[Optional[int], Sizes]  # first slot or None, compute instances in their order


class Demand(NamedTuple):
    """What is wanted of one profile: either sizes of compute instances, in any grouping, or exact GPU instances."""

    profile: Profile
    sizes: Sizes  # the largest first
    specs: Tuple[Spec, ...]


class Assignment(NamedTuple):
    """One way to meet a demand."""

    kept: Tuple[Tuple[Instance, Change], ...]
    new: Tuple[Spec, ...]
    saved: int  # compute instances that survive


def demands(profiles: Sequence[Profile], wanted: Wanted) -> List[Demand]:
    """Group what is wanted by profile. Raises KeyError with the name of a profile that is not among these."""
    by_name = {profile.name: profile for profile in profiles}
    sizes: Dict[str, List[int]] = {}
    specs: Dict[str, List[Spec]] = {}
    if wanted.enabled:
        for name, size, count in wanted.counts:
            sizes.setdefault(name, []).extend([size] * count)
        for spec in wanted.instances:
            specs.setdefault(spec.profile, []).append((spec.start, spec.compute))
    return [Demand(by_name[name], tuple(sorted(sizes.get(name, ()), reverse=True)), tuple(specs.get(name, ())))
            for name in sorted(set(sizes) | set(specs), key=lambda name: (-by_name[name].slices, name))]


@lru_cache(maxsize=4096)
def groups(slices: int, sizes: Sizes) -> Optional[Tuple[Sizes, ...]]:
    """Find the fewest GPU instances of `slices` that hold compute instances of these sizes; None when one of them fits in none."""
    if not sizes:
        return ()
    if all(size == slices for size in sizes):
        return tuple((size,) for size in sizes)
    best: Optional[Tuple[Sizes, ...]] = None
    for content in contents(slices):
        if content[0] != sizes[0]:  # The largest must be somewhere: try only where.
            continue
        rest = without(sizes, content)
        more = groups(slices, rest) if rest is not None else None
        if more is not None and (best is None or len(more) + 1 < len(best)):
            best = (content,) + more
    return best


def without(sizes: Sizes, content: Sizes) -> Optional[Sizes]:
    """Remove `content` from `sizes`; None when it is not all in there."""
    left = Counter(sizes)
    left.subtract(content)
    return None if any(count < 0 for count in left.values()) else tuple(sorted(left.elements(), reverse=True))


def assignments(demand: Demand, current: Sequence[Instance]) -> List[Assignment]:
    """List all ways that can be the best; `current` are the GPU instances of this profile."""
    found: List[Assignment] = []
    if demand.specs:
        if any(pack(demand.profile.slices, 0, sizes) is None for _, sizes in demand.specs):
            return []
        _assign(demand, current, (), demand.specs, found)
    elif len(demand.sizes) <= demand.profile.slices * max(demand.profile.count, len(current)):
        _share(demand, current, (), demand.sizes, found)
    return _best(found)


def _share(demand: Demand, current: Sequence[Instance], kept: Tuple[Tuple[Instance, Change], ...], rest: Sizes,
           found: List[Assignment]) -> None:
    """Try what each of `current` could hold of `rest`; what none of them holds goes into new ones."""
    slices = demand.profile.slices
    if not current:
        grouped = groups(slices, rest)
        if grouped is not None:
            new = tuple((None, sizes) for sizes in grouped)
            found.append(Assignment(kept, new, sum(change.kept for _, change in kept)))
        return
    _share(demand, current[1:], kept, rest, found)
    for content in contents(slices):
        left = without(rest, content)
        to = change(current[0], slices, content, False) if left is not None else None
        if left is not None and to is not None:
            _share(demand, current[1:], kept + ((current[0], to),), left, found)


def _assign(demand: Demand, current: Sequence[Instance], kept: Tuple[Tuple[Instance, Change], ...], rest: Tuple[Spec, ...],
            found: List[Assignment]) -> None:
    """Try which of the specified instances each of `current` could be."""
    if not current:
        found.append(Assignment(kept, rest, sum(change.kept for _, change in kept)))
        return
    first = current[0]
    pinned = [spec for spec in rest if spec[0] == first.placement.start]  # It is where that one is wanted.
    if not pinned:
        _assign(demand, current[1:], kept, rest, found)
    for spec in pinned[:1] or sorted({spec for spec in rest if spec[0] is None}):
        to = change(first, demand.profile.slices, spec[1], True)
        if to is not None:
            at = rest.index(spec)
            _assign(demand, current[1:], kept + ((first, to),), rest[:at] + rest[at + 1:], found)


def _best(found: Sequence[Assignment]) -> List[Assignment]:
    """Keep, of those with the same kept GPU instances, the ones that no other beats."""
    best: Dict[Tuple[Instance, ...], List[Assignment]] = {}
    for part in sorted(found, key=lambda part: (len(part.new), -part.saved)):
        same = best.setdefault(tuple(instance for instance, _ in part.kept), [])
        if not same or part.saved > same[-1].saved:
            same.append(part)
    return [part for same in best.values() for part in same]
