"""Which cores a bound instance gets, and how many instances fit.

A core has `sharebase` pieces; an instance of R cores needs `full` whole cores
and one fragment of `frag` pieces. A core is *full* while its free pieces are
a multiple of the sharebase (more than one when it is oversold), otherwise
what is left of it serves fragments. At most `maxshare` cores (-1: any number)
are broken up for fragments.

`plan` and `count` agree by construction: `count` is what `plan` can return.
All ties go to the lower core number.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

CoreMap = dict[str, int]  # core id -> pieces


@dataclass(frozen=True, slots=True)
class Shape:
    """One instance's need: `full` cores as a whole and `frag` pieces of one more."""

    full: int
    frag: int
    sharebase: int


def shape_of(pieces: int, sharebase: int) -> Shape:
    """How an instance of so many pieces lies on cores."""
    full, frag = divmod(pieces, sharebase)
    return Shape(full, frag, sharebase)


def core_order(core: str) -> tuple[int, str]:
    """Sorts core ids by number."""
    return (int(core), core) if core.isdigit() else (1 << 62, core)


@dataclass(slots=True)
class _Split:
    """Cores in the order they are taken: (id, whole slots) and (id, free pieces)."""

    full: list[tuple[str, int]]
    fragments: list[tuple[str, int]]
    convertible: int  # how many of `full`, from the front, may be broken up


def _split(free: Mapping[str, int], shape: Shape, maxshare: int) -> _Split:
    ordered = sorted(((left, core_order(core), core) for core, left in free.items() if left > 0))
    full = [(core, left // shape.sharebase) for left, _, core in ordered if left % shape.sharebase == 0]
    fragments = [(core, left) for left, _, core in ordered if left % shape.sharebase]
    allowed = len(free) - shape.full
    if 0 <= maxshare < allowed:
        allowed = maxshare
    return _Split(full, fragments, min(len(full), max(0, allowed - len(fragments))))


def count(free: Mapping[str, int], shape: Shape, maxshare: int) -> int:
    """How many instances fit on cores with so many free pieces."""
    return _best(_split(free, shape, maxshare), shape)[0]


def plan(free: Mapping[str, int], shape: Shape, maxshare: int, most: int) -> list[CoreMap]:
    """Cores for up to `most` instances, one map each."""
    split = _split(free, shape, maxshare)
    fit, broken = _best(split, shape)
    fit = min(fit, most)
    if fit <= 0:
        return []
    fulls = _full_plans(split.full[broken:], shape, fit) if shape.full else []
    frags = _fragment_plans(_broken_up(split, shape, broken), shape, fit) if shape.frag else []
    if not frags:
        return fulls
    if not fulls:
        return [{core: shape.frag} for core in frags]
    for whole, core in zip(fulls, frags, strict=True):
        whole[core] = whole.get(core, 0) + shape.frag
    return fulls


def take(free: CoreMap, plans: list[CoreMap]) -> CoreMap:
    """What is left of `free` after these instances."""
    left = dict(free)
    for cores in plans:
        for core, pieces in cores.items():
            left[core] = left.get(core, 0) - pieces
    return left


def _best(split: _Split, shape: Shape) -> tuple[int, int]:
    """(instances, full cores broken up for them); the fewest broken cores that reach the most instances."""
    if not shape.frag:
        return _full_count([slots for _, slots in split.full], shape.full), 0
    slots = sum(left // shape.frag for _, left in split.fragments)
    gains = [whole * shape.sharebase // shape.frag for _, whole in split.full]
    if not shape.full:
        return slots + sum(gains[: split.convertible]), split.convertible
    whole = [slots_ for _, slots_ in split.full]
    best, broken = min(_full_count(whole, shape.full), slots), 0
    for taken in range(1, split.convertible + 1):
        slots += gains[taken - 1]
        fulls = _full_count(whole[taken:], shape.full)
        if min(fulls, slots) > best:
            best, broken = min(fulls, slots), taken
        if fulls <= best:
            break  # breaking more cores only makes whole ones scarcer
    return best, broken


def _full_count(slots: list[int], full: int) -> int:
    """How many times `full` different cores can be taken from cores with so many slots each."""
    if not slots or full > len(slots):
        return 0
    if full == 1:
        return sum(slots)
    if slots[-1] == 1:  # sorted: nothing is oversold
        return len(slots) // full
    low, high = 0, sum(slots) // full
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(slot, middle) for slot in slots) >= full * middle:
            low = middle
        else:
            high = middle - 1
    return low


def _full_plans(cores: list[tuple[str, int]], shape: Shape, most: int) -> list[CoreMap]:
    """The first `most` sets of whole cores, in the order of the cores they use."""
    if cores[-1][1] == 1:
        first = len(cores) % shape.full
        starts = range(first, len(cores), shape.full)[:most]
        return [{core: shape.sharebase for core, _ in cores[start : start + shape.full]} for start in starts]
    # The roomiest core first, the higher core number among equals.
    heap = [(-slots, -core_order(core)[0], position) for position, (core, slots) in enumerate(cores)]
    heapq.heapify(heap)
    sets: list[list[int]] = []
    while len(heap) >= shape.full:
        taken = [heapq.heappop(heap) for _ in range(shape.full)]
        sets.append([position for _, _, position in taken])
        for slots, number, position in taken:
            if slots < -1:
                heapq.heappush(heap, (slots + 1, number, position))
    sets.sort(key=sum)
    return [{cores[position][0]: shape.sharebase for position in sorted(chosen)} for chosen in sets[:most]]


def _broken_up(split: _Split, shape: Shape, broken: int) -> list[tuple[str, int]]:
    return split.fragments + [(core, slots * shape.sharebase) for core, slots in split.full[:broken]]


def _fragment_plans(cores: list[tuple[str, int]], shape: Shape, most: int) -> list[str]:
    """The core of each of the first `most` fragments."""
    chosen: list[str] = []
    for core, left in cores:
        chosen.extend([core] * min(left // shape.frag, most - len(chosen)))
        if len(chosen) >= most:
            break
    return chosen


def plan_near(free: Mapping[str, int], shape: Shape, maxshare: int, old: Mapping[str, int]) -> CoreMap | None:
    """Cores for one instance that had `old` (already back in `free`), staying where it was if it can; None: no room."""
    split = _split(free, shape, maxshare)
    known = sorted(old, key=lambda core: (old[core], core_order(core)))
    whole_before = [core for core in known if old[core] >= shape.sharebase]
    parts_before = [core for core in known if old[core] < shape.sharebase]
    full = [core for core, _ in split.full]
    near_full = _reordered(full, whole_before + parts_before)
    if not shape.frag:
        return dict.fromkeys(near_full[: shape.full], shape.sharebase) if len(full) >= shape.full else None
    roomy = [core for core, left in split.fragments if left >= shape.frag]
    # A whole core may be broken up only while enough others stay whole.
    if split.convertible and len(full) > shape.full:
        roomy += _reordered(full, parts_before)
    elif len(full) < shape.full:
        return None
    if not roomy:
        return None
    core = _reordered(roomy, parts_before + whole_before)[0]
    chosen = [other for other in near_full if other != core][: shape.full]
    return {**dict.fromkeys(chosen, shape.sharebase), core: shape.frag}


def _reordered(cores: list[str], first: list[str]) -> list[str]:
    """`cores` with those named in `first` at the front, in that order."""
    present = set(cores)
    front = [core for core in first if core in present]
    taken = set(front)
    return front + [core for core in cores if core not in taken]


def fragmentation(free: Mapping[str, int], sharebase: int) -> float:
    """Share of the free pieces that lie on broken cores: 0 (all whole) to 1."""
    total = sum(left for left in free.values() if left > 0)
    broken = sum(left for left in free.values() if left > 0 and left % sharebase)
    return broken / total if total else 0.0
