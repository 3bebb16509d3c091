"""Taking secrets out of what leaves the house. Three nets, each for what slips through the one before.

Fields that are known to hold secrets are masked by name (`data`); every value
that was masked is then looked for everywhere else (`Scrubber.text`); and what
looks like a secret (keys in PEM, passwords in addresses, `token=...`) goes,
whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

MASK = "***"
SECRET_CHARS_MIN = 4  # shorter values (1, on, prod) would turn every text into stars
_NAMED = (
    r"pass(?:word|wd|phrase)?|secret|token|credential|api[_-]?key|access[_-]?key|private[_-]?key|auth(?:s|orization)?"
)
_SECRET_KEY = re.compile(rf"(?i){_NAMED}|dsn")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
_ADDRESS = re.compile(r"(?<=://)[^/\s\"'@]+(?=@)")
_GIVEN = re.compile(
    rf"(?i)([\w.-]*(?:{_NAMED})[\w.-]*[\"']?\s*[:=]\s*)(?:(?:bearer|basic)\s+)?(\"[^\"]*\"|'[^']*'|[^\s,;&}}\]]+)"
)


class Scrubber:
    """Remembers every value that it has masked."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None  # all of them; made when it is needed
        for each in secrets:
            self.remember(each)

    def remember(self, value: str) -> None:
        """A value that must not be seen anywhere, nor its lines if it has several."""
        for part in {value, *value.splitlines()}:
            if len(part.strip()) >= SECRET_CHARS_MIN:
                self._known.add(part.strip())
                self._pattern = None

    def env(self, items: Iterable[str]) -> list[str]:
        """`KEY=value` items with only their keys."""
        masked = []
        for item in items:
            key, equals, value = item.partition("=")
            self.remember(value)
            masked.append(f"{key}={MASK}" if equals else key)
        return masked

    def data(self, value: Any, key: str = "") -> Any:
        """A document in which everything is masked that its key calls a secret."""
        if isinstance(value, dict):
            return {name: self.data(inner, str(name)) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.data(inner, key) for inner in value]
        if value in (None, "", 0, False, MASK) or not _SECRET_KEY.search(key):
            return value
        self.remember(str(value))
        return MASK

    def clean(self, value: Any) -> Any:
        """A document whose texts, names included, have gone through `text`."""
        if isinstance(value, dict):
            return {self.text(str(name)): self.clean(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.clean(inner) for inner in value]
        return self.text(value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """Any text, without what was masked elsewhere and without what looks like a secret."""
        if "-----BEGIN" in text:
            text = _PEM.sub(MASK, text)
        if "@" in text:
            text = _ADDRESS.sub(MASK, text)
        if "=" in text or ":" in text:
            text = _GIVEN.sub(_masked, text)
        if self._known and len(text) >= SECRET_CHARS_MIN:
            if self._pattern is None:
                longest_first = sorted(self._known, key=len, reverse=True)
                self._pattern = re.compile("|".join(re.escape(secret) for secret in longest_first))
            text = self._pattern.sub(MASK, text)
        return text


def _masked(found: re.Match[str]) -> str:
    """The key, and stars in the quotes that were there."""
    value = found[2]
    if value.strip("\"'") in ("", MASK, "true", "false", "null", "None", "0"):
        return found[0]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{found[1]}{quote}{MASK}{quote}"
