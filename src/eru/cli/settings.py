"""What the global options and their variables say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

DEFAULT_ADDRESS = "127.0.0.1:5001"
FORMATS = ("table", "json", "yaml", "jsonl", "name")


@dataclass(frozen=True)
class Settings:
    """The effective global options of one command."""

    eru: str = DEFAULT_ADDRESS
    username: str = ""
    password: str = ""
    output: str = "table"
    quiet: bool = False
    verbose: bool = False
    expand: bool = False
    tls: bool = False
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_server_name: str = ""
    program: str = "eru"
    argv: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Settings(eru={self.eru!r}, output={self.output!r})"

    def overridden(self, given: dict[str, Any]) -> Settings:
        """With the options that were repeated after the command."""
        return replace(self, **{key: value for key, value in given.items() if value not in (None, False)})


def format_name(text: str | None) -> str:
    """The output format of `--output`; what is not known means a table, as ever."""
    name = (text or "").lower()
    name = "yaml" if name == "yml" else name
    return name if name in FORMATS else "table"
