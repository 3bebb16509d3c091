"""The published basic-auth form: request metadata `<user name>: <password>`."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from eru.wire.status import BadAuth


class BasicAuth:
    """Checks every call when a user name is configured, and lets all pass when not.

    Metadata keys travel in lower case, so the name is compared in lower case.
    """

    def __init__(self, username: str, password: str) -> None:
        self._username = username.lower()
        self._password = password.encode()

    @property
    def on(self) -> bool:
        return bool(self._username)

    def check(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Raises BadAuth. Takes the same time for every wrong password."""
        if not self._username:
            return
        given = next((value for key, value in metadata if key == self._username), None)
        if given is None:
            raise BadAuth("invalid grpc username: the call carries no credentials for a user that this core knows")
        offered = given if isinstance(given, bytes) else given.encode()
        if not hmac.compare_digest(offered, self._password):
            raise BadAuth("invalid grpc password")
