# SPDX-License-Identifier: Apache-2.0
"""Why a request fits on a card in no way, and what comes nearest to it."""

from collections import Counter
from itertools import product
from typing import Callable, Dict, List, Sequence, Tuple, Union

from .assignments import Demand, Spec, groups
from .card import Card, Profile
from .compute import pack
from .names import ci_name

Item = Tuple[str, Union[int, Spec]]  # profile and the size of one compute instance, or the GPU instance just so
Request = Dict[Item, int]
_ENGINES = ("decoders", "encoders", "JPEG engines", "OFA engines")
_SHOWN = 3
_LOOKED_AT = 2000  # smaller requests; with more kinds of instances than that, only a quick guess is made


def explain(card: Card, asked: Sequence[Demand], fits: Callable[[Sequence[Demand]], bool]) -> str:
    """`fits` says whether an empty card can hold something."""
    request = Counter((demand.profile.name, one) for demand in asked for one in (demand.specs or demand.sizes))
    told = f"{_words(request)} does not fit: {'; '.join(_reasons(card, asked))}."
    free = [demand._replace(specs=tuple((None, sizes) for _, sizes in demand.specs)) for demand in asked]
    if free != list(asked) and fits(free):
        return told + " It would fit without `placement`."
    near = [_words(one) for one in _nearest(card, request, fits)]
    return told + (f" Nearest that fits: {'; or '.join(near)}." if near else " Nothing of it fits.")


def _words(request: Request) -> str:
    """2 x 1c.3g.20gb, or 3g.20gb with 2c+1c at slot 4."""
    told = []
    for (name, one), count in request.items():
        if isinstance(one, int):
            text = ci_name(name, one)
        else:
            start, sizes = one
            text = name if ci_name(name, sizes[0]) == name else f"{name} with {'+'.join(f'{size}c' for size in sizes)}"
            text += "" if start is None else f" at slot {start}"
        told.append(f"{count} x {text}")
    return ", ".join(told)


def _reasons(card: Card, asked: Sequence[Demand]) -> List[str]:
    found: List[str] = []
    needed: List[Profile] = []
    for demand in asked:
        profile, starts = demand.profile, [place.start for place in demand.profile.placements]
        if len(demand.sizes) > profile.count * profile.slices and demand.sizes[-1] < profile.slices:
            found.append(f"{profile.count} x {profile.name} have room for {profile.count * profile.slices} compute instances, not "
                         f"{len(demand.sizes)}")
            continue
        grouped = tuple(sizes for _, sizes in demand.specs) or groups(profile.slices, demand.sizes) or ()
        wrong = [sizes for sizes in grouped if pack(profile.slices, 0, sizes) is None] or ([] if grouped else [demand.sizes])
        found += [f"a {profile.name} has no place for compute instances of {' + '.join(str(size) for size in sizes)} "
                  "slices" for sizes in wrong]
        found += [f"a {profile.name} starts at slot {_or(starts)}, not at {start}"
                  for start, _ in demand.specs if start is not None and start not in starts]
        if len(grouped) > profile.count:
            found.append(f"there can be {profile.count} x {profile.name}, not {len(grouped)}")
        needed += [profile] * len(grouped)
    amounts = [("compute slices", sum(one.slices for one in needed), card.slices),
               ("memory slots", sum(place.size for one in needed for place in one.placements[:1]), card.slots)]
    amounts += [(name, sum(one.engines[kind] for one in needed), max(one.engines[kind] * max(one.count, 1) for one in card.profiles))
                for kind, name in enumerate(_ENGINES)]
    found += [f"it takes {need} {name} and the card has {have}" for name, need, have in amounts if need > have]
    return found or ["there is no way to place them beside each other, as " + " and ".join(
        f"{one.name} starts at slot {_or([place.start for place in one.placements])}" for one in sorted(set(needed), reverse=True))]


def _or(numbers: Sequence[int]) -> str:
    return " or ".join([", ".join(str(number) for number in numbers[:-1]), str(numbers[-1])] if len(numbers) > 1 else map(str, numbers))


def _demands(card: Card, request: Request) -> List[Demand]:
    found = []
    for profile in card.profiles:
        ones = [one for (name, one), count in request.items() if name == profile.name for _ in range(count)]
        sizes = tuple(sorted((one for one in ones if isinstance(one, int)), reverse=True))
        if ones:
            found.append(Demand(profile, sizes, tuple(one for one in ones if not isinstance(one, int))))
    return found


def _nearest(card: Card, request: Request, fits: Callable[[Sequence[Demand]], bool]) -> List[Request]:
    """With the fewest left out, then the smallest left out; the room that this leaves is filled with smaller ones."""
    slices = {profile.name: profile.slices for profile in card.profiles}
    most = {item: min(count, {one.name: one.count * one.slices for one in card.profiles}[item[0]]) for item, count in request.items()}

    def weight(item: Item) -> int:
        return item[1] if isinstance(item[1], int) else slices[item[0]]

    number = 1
    for count in most.values():
        number *= count + 1
    found: List[Request] = []
    if number > _LOOKED_AT:
        guess: Request = Counter()
        for item in sorted(request, key=weight, reverse=True):
            for _ in range(most[item]):
                more = Counter(guess) + Counter([item])
                guess = more if fits(_demands(card, more)) else guess
        found = [guess] if guess else []
    else:
        smaller = [dict(zip(most, counts)) for counts in product(*(range(count, -1, -1) for count in most.values()))]
        smaller.sort(key=lambda one: (-sum(one.values()), -sum(weight(item) * count for item, count in one.items())))
        for one in smaller:
            if (any(one.values()) and sum(weight(item) * count for item, count in one.items()) <= card.slices
                    and not any(all(one[item] <= other[item] for item in one) for other in found) and fits(_demands(card, one))):
                found.append(one)
                if len(found) == _SHOWN:
                    break
    return [_filled(card, one, request, fits) for one in found]


def _filled(card: Card, less: Request, request: Request, fits: Callable[[Sequence[Demand]], bool]) -> Request:
    """For each one left out the largest smaller instance that still fits, if any."""
    profiles = {profile.name: profile for profile in card.profiles}
    plain = sorted((one for one in card.profiles if "+" not in one.name and "-" not in one.name),
                   key=lambda one: (one.slices, one.memory_mib), reverse=True)
    full = Counter({item: count for item, count in less.items() if count})
    for item in sorted((Counter(request) - full).elements(), key=lambda item: profiles[item[0]].slices, reverse=True):
        for one in plain:
            if one.slices <= profiles[item[0]].slices and one.memory_mib <= profiles[item[0]].memory_mib and one.name != item[0]:
                instead: Item = (one.name, one.slices if isinstance(item[1], int) else (None, (one.slices,)))
                if fits(_demands(card, full + Counter([instead]))):
                    full[instead] += 1
                    break
    return dict(full)
