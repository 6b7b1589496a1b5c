# SPDX-License-Identifier: Apache-2.0
"""Explain why a request does not fit on a card, and find the nearest that fits."""

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
    """Render the explanation. `fits` says whether an empty card can hold something."""
    request = Counter((demand.profile.name, shape) for demand in asked for shape in (demand.specs or demand.sizes))
    message = f"{_describe(request)} does not fit: {'; '.join(_reasons(card, asked))}."
    free = [demand._replace(specs=tuple((None, sizes) for _, sizes in demand.specs)) for demand in asked]
    if free != list(asked) and fits(free):
        return message + " It would fit without `placement`."
    near = [_describe(candidate) for candidate in _nearest(card, request, fits)]
    return message + (f" Nearest that fits: {'; or '.join(near)}." if near else " Nothing of it fits.")


def _describe(request: Request) -> str:
    """Render a request, such as: 2 x 1c.3g.20gb, or 3g.20gb with 2c+1c at slot 4."""
    texts = []
    for (name, shape), count in request.items():
        if isinstance(shape, int):
            text = ci_name(name, shape)
        else:
            start, sizes = shape
            text = name if ci_name(name, sizes[0]) == name else f"{name} with {'+'.join(f'{size}c' for size in sizes)}"
            text += "" if start is None else f" at slot {start}"
        texts.append(f"{count} x {text}")
    return ", ".join(texts)


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
    amounts = [("compute slices", sum(profile.slices for profile in needed), card.slices),
               ("memory slots", sum(place.size for profile in needed for place in profile.placements[:1]), card.slots)]
    amounts += [(name, sum(profile.engines[kind] for profile in needed),
                 max(profile.engines[kind] * max(profile.count, 1) for profile in card.profiles)) for kind, name in enumerate(_ENGINES)]
    found += [f"it takes {need} {name} and the card has {have}" for name, need, have in amounts if need > have]
    return found or ["there is no way to place them beside each other, as " + " and ".join(
        f"{profile.name} starts at slot {_or([place.start for place in profile.placements])}"
        for profile in sorted(set(needed), reverse=True))]


def _or(numbers: Sequence[int]) -> str:
    return " or ".join([", ".join(str(number) for number in numbers[:-1]), str(numbers[-1])] if len(numbers) > 1 else map(str, numbers))


def _demands(card: Card, request: Request) -> List[Demand]:
    found = []
    for profile in card.profiles:
        ones = [shape for (name, shape), count in request.items() if name == profile.name for _ in range(count)]
        sizes = tuple(sorted((shape for shape in ones if isinstance(shape, int)), reverse=True))
        if ones:
            found.append(Demand(profile, sizes, tuple(shape for shape in ones if not isinstance(shape, int))))
    return found


def _nearest(card: Card, request: Request, fits: Callable[[Sequence[Demand]], bool]) -> List[Request]:
    """Leave out the fewest instances, then the smallest; fill the room that this leaves with smaller ones."""
    slices = {profile.name: profile.slices for profile in card.profiles}
    room = {profile.name: profile.count * profile.slices for profile in card.profiles}
    most = {item: min(count, room[item[0]]) for item, count in request.items()}

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
        smaller.sort(key=lambda candidate: (-sum(candidate.values()), -sum(weight(item) * count for item, count in candidate.items())))
        for candidate in smaller:
            if (any(candidate.values()) and sum(weight(item) * count for item, count in candidate.items()) <= card.slices
                    and not any(all(candidate[item] <= other[item] for item in candidate) for other in found)
                    and fits(_demands(card, candidate))):
                found.append(candidate)
                if len(found) == _SHOWN:
                    break
    return [_filled(card, candidate, request, fits) for candidate in found]


def _filled(card: Card, less: Request, request: Request, fits: Callable[[Sequence[Demand]], bool]) -> Request:
    """Add, for each instance left out, the largest smaller one that still fits, if any."""
    profiles = {profile.name: profile for profile in card.profiles}
    plain = sorted((profile for profile in card.profiles if "+" not in profile.name and "-" not in profile.name),
                   key=lambda profile: (profile.slices, profile.memory_mib), reverse=True)
    full = Counter({item: count for item, count in less.items() if count})
    for item in sorted((Counter(request) - full).elements(), key=lambda item: profiles[item[0]].slices, reverse=True):
        for profile in plain:
            largest = profiles[item[0]]
            if profile.slices <= largest.slices and profile.memory_mib <= largest.memory_mib and profile.name != item[0]:
                instead: Item = (profile.name, profile.slices if isinstance(item[1], int) else (None, (profile.slices,)))
                if fits(_demands(card, full + Counter([instead]))):
                    full[instead] += 1
                    break
    return dict(full)
