# SPDX-License-Identifier: Apache-2.0
"""One profile at a time: which of its GPU instances could stay and serve what is wanted, and how many would have to be made.

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
    """What is wanted of one profile: either sizes of compute instances, to be grouped as is best, or GPU instances just so."""

    profile: Profile
    sizes: Sizes  # the largest first
    specs: Tuple[Spec, ...]


class Part(NamedTuple):
    """One way to meet a demand."""

    kept: Tuple[Tuple[Instance, Change], ...]
    new: Tuple[Spec, ...]
    saved: int  # compute instances that survive


def demands(profiles: Sequence[Profile], wanted: Wanted) -> List[Demand]:
    """By profile. Raises KeyError with the name of a profile that is not among these."""
    by_name = {profile.name: profile for profile in profiles}
    sizes: Dict[str, List[int]] = {}
    specs: Dict[str, List[Spec]] = {}
    if wanted.enabled:
        for name, size, count in wanted.counts:
            sizes.setdefault(name, []).extend([size] * count)
        for one in wanted.instances:
            specs.setdefault(one.profile, []).append((one.start, one.compute))
    return [Demand(by_name[name], tuple(sorted(sizes.get(name, ()), reverse=True)), tuple(specs.get(name, ())))
            for name in sorted(set(sizes) | set(specs), key=lambda name: (-by_name[name].slices, name))]


@lru_cache(maxsize=4096)
def groups(slices: int, sizes: Sizes) -> Optional[Tuple[Sizes, ...]]:
    """The fewest GPU instances of so many slices that hold compute instances of these sizes; None when one of them fits in none."""
    if not sizes:
        return ()
    if all(size == slices for size in sizes):
        return tuple((size,) for size in sizes)
    best: Optional[Tuple[Sizes, ...]] = None
    for content in contents(slices):
        if content[0] != sizes[0]:  # The largest must lie somewhere: look only at where.
            continue
        rest = without(sizes, content)
        more = groups(slices, rest) if rest is not None else None
        if more is not None and (best is None or len(more) + 1 < len(best)):
            best = (content,) + more
    return best


def without(sizes: Sizes, content: Sizes) -> Optional[Sizes]:
    """`sizes` less `content`; None when it is not all in there."""
    left = Counter(sizes)
    left.subtract(content)
    return None if any(count < 0 for count in left.values()) else tuple(sorted(left.elements(), reverse=True))


def parts(demand: Demand, current: Sequence[Instance]) -> List[Part]:
    """All ways worth a look, `current` being the GPU instances of this profile."""
    found: List[Part] = []
    if demand.specs:
        if any(pack(demand.profile.slices, 0, sizes) is None for _, sizes in demand.specs):
            return []
        _assign(demand, current, (), demand.specs, found)
    elif len(demand.sizes) <= demand.profile.slices * max(demand.profile.count, len(current)):
        _share(demand, current, (), demand.sizes, found)
    return _best(found)


def _share(demand: Demand, current: Sequence[Instance], kept: Tuple[Tuple[Instance, Change], ...], rest: Sizes, found: List[Part]) -> None:
    """What each of `current` could hold of `rest`; what none of them holds goes into new ones."""
    slices = demand.profile.slices
    if not current:
        grouped = groups(slices, rest)
        if grouped is not None:
            found.append(Part(kept, tuple((None, sizes) for sizes in grouped), sum(change.kept for _, change in kept)))
        return
    _share(demand, current[1:], kept, rest, found)
    for content in contents(slices):
        left = without(rest, content)
        to = change(current[0], slices, content, False) if left is not None else None
        if left is not None and to is not None:
            _share(demand, current[1:], kept + ((current[0], to),), left, found)


def _assign(demand: Demand, current: Sequence[Instance], kept: Tuple[Tuple[Instance, Change], ...], rest: Tuple[Spec, ...],
            found: List[Part]) -> None:
    """Which of the specified ones each of `current` could be."""
    if not current:
        found.append(Part(kept, rest, sum(change.kept for _, change in kept)))
        return
    first = current[0]
    here = [spec for spec in rest if spec[0] == first.placement.start]  # It stands where it is wanted: then it is that one.
    if not here:
        _assign(demand, current[1:], kept, rest, found)
    for spec in here[:1] or sorted({spec for spec in rest if spec[0] is None}):
        to = change(first, demand.profile.slices, spec[1], True)
        if to is not None:
            at = rest.index(spec)
            _assign(demand, current[1:], kept + ((first, to),), rest[:at] + rest[at + 1:], found)


def _best(found: Sequence[Part]) -> List[Part]:
    """Of those that keep the same GPU instances, the ones that no other beats."""
    best: Dict[Tuple[Instance, ...], List[Part]] = {}
    for part in sorted(found, key=lambda part: (len(part.new), -part.saved)):
        same = best.setdefault(tuple(instance for instance, _ in part.kept), [])
        if not same or part.saved > same[-1].saved:
            same.append(part)
    return [part for same in best.values() for part in same]
