"""Did you mean: the nearest of known words."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN_MAX = 3  # suggestions
COMPARED_MAX = 5000  # words looked at


def nearest(word: str, known: Iterable[str], *, least: float = 0.6) -> list[str]:
    """Up to three known words that look like `word`, best first; `least`: how alike, from 0 to 1."""
    import difflib
    from itertools import islice

    words = {each.lower(): each for each in islice(known, COMPARED_MAX)}
    found = difflib.get_close_matches(word.lower(), words, n=SHOWN_MAX, cutoff=least)
    if found:  # only those about as near as the nearest
        ratios = [difflib.SequenceMatcher(None, word.lower(), each).ratio() for each in found]
        found = [each for each, ratio in zip(found, ratios, strict=True) if ratio > ratios[0] - 0.1]
    if not found and len(word) >= 2:
        found = sorted(each for each in words if each.startswith(word.lower()))[:SHOWN_MAX]
    return [words[each] for each in found]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint in words, or ""."""
    found = nearest(word, known)
    return f"did you mean {' or '.join(found)}?" if found else ""
