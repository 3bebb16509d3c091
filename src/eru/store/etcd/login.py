"""The token of a user with a password: fetched when needed, again when it has expired."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Fetch = Callable[[], Awaitable[str]]


class Login:
    """Knows the current token. `fetch` asks etcd for a new one; "" when etcd has no users."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._token: str | None = None
        self._one_at_a_time = asyncio.Lock()

    async def token(self) -> str:
        """The current token; the first time it is fetched."""
        return self._token if self._token is not None else await self.renew(None)

    async def renew(self, refused: str | None) -> str:
        """A token other than `refused`; fetched once however many ask."""
        async with self._one_at_a_time:
            if self._token is None or self._token == refused:
                self._token = await self._fetch()
            return self._token
