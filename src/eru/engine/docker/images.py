"""Images on Docker: list, pull, push, build, commit, tag, remove."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from eru.engine.contract import ImageInfo, Progress
from eru.engine.docker.calls import Calls, filters, progress
from eru.engine.docker.names import auth_header, config_header, split_image
from eru.model.errors import EngineMissing

DIGEST = "sha256:"


class Images(Calls):
    """Everything about images and registries."""

    async def images(self, reference: str = "") -> list[ImageInfo]:
        query = {"filters": filters(reference=[reference])} if reference else {}
        rows = await self._read("/images/json", **query)
        return [
            ImageInfo(id=row["Id"], tags=[tag for tag in row.get("RepoTags") or [] if tag != "<none>:<none>"])
            for row in rows
        ]

    async def local_digests(self, image: str) -> list[str]:
        """Of an image that never met a registry: its own id."""
        try:
            found = await self._read(f"/images/{image}/json")
        except EngineMissing:
            return []
        return found.get("RepoDigests") or [found["Id"]]

    async def remote_digest(self, image: str) -> str:
        found = await self._http.call(
            "GET",
            f"/distribution/{image}/json",
            headers=auth_header(image, self._settings.auths),
            timeout_s=self._settings.registry_timeout_s,
        )
        return f"{split_image(image)[0]}@{found['Descriptor']['digest']}"

    async def pull(self, image: str) -> AsyncIterator[Progress]:
        name, tag = split_image(image)
        query = {"fromImage": name, "tag": tag or "latest"}
        async for step in self._progress("/images/create", query, auth_header(image, self._settings.auths)):
            yield step

    async def push(self, image: str) -> AsyncIterator[Progress]:
        name, tag = split_image(image)
        headers = auth_header(image, self._settings.auths)
        async for step in self._progress(f"/images/{name}/push", {"tag": tag or "latest"}, headers):
            yield step

    async def build(
        self, context: AsyncIterator[bytes], refs: Sequence[str], *, platform: str = ""
    ) -> AsyncIterator[Progress]:
        query: dict[str, str | list[str]] = {
            "t": list(refs),
            "nocache": "1",
            "rm": "1",
            "forcerm": "1",
            "pull": "1",
        }
        if platform:
            query["platform"] = platform
        headers = {**config_header(self._settings.auths), "Content-Type": "application/x-tar"}
        async for step in self._progress("/build", query, headers, context):
            yield step

    async def _progress(
        self,
        path: str,
        query: dict[str, str] | dict[str, str | list[str]],
        headers: dict[str, str],
        data: AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[Progress]:
        idle_s = self._settings.progress_idle_s
        async with self._http.stream(
            "POST", path, query=dict(query), headers=headers, data=data, idle_s=idle_s
        ) as chunks:
            async for step in progress(chunks):
                yield step

    async def commit(self, id: str, ref: str) -> str:
        name, tag = split_image(ref)
        answer = await self._change("POST", "/commit", body={}, container=id, repo=name, tag=tag or "latest")
        return str(answer["Id"])

    async def tag(self, image: str, ref: str) -> None:
        name, tag = split_image(ref)
        await self._change("POST", f"/images/{image}/tag", repo=name, tag=tag or "latest")

    async def remove_image(self, image: str, *, force: bool = False, prune: bool = True) -> list[str]:
        rows = await self._change("DELETE", f"/images/{image}", force=int(force), noprune=int(not prune))
        return [entry for row in rows or [] for entry in (row.get("Untagged"), row.get("Deleted")) if entry]

    async def prune_images(self) -> None:
        await self._change("POST", "/images/prune")

    async def prune_build_cache(self) -> None:
        await self._change("POST", "/build/prune")
