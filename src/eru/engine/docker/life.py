"""The life of a workload on Docker: create to remove, looking and live updates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from eru.engine.contract import Created, CreateSpec, Inspection, Listed
from eru.engine.docker.calls import Calls, filters
from eru.engine.docker.frames import stamp_ns
from eru.engine.docker.limits import CPU_PERIOD_US, merged, update_limits
from eru.engine.docker.mapping import endpoint, map_create
from eru.engine.docker.refused import ULIMIT_REFUSED
from eru.lib.tasks import shielded
from eru.model.errors import EngineError, EngineMissing, EngineRefused
from eru.model.nodes import Resources

REMOVAL_WAIT_S = 30.0  # for a removal that somebody else has begun


class Life(Calls):
    """Create, start, stop, remove, inspect, find, wait, suspend, resume, update."""

    async def create(self, spec: CreateSpec) -> Created:
        mapped = map_create(spec, self._limits, self._settings, self._http.address.node_ip)
        quota = burst(mapped.body["HostConfig"], self._settings.start_burst_cpu)
        answer = await self._change("POST", "/containers/create", body=mapped.body, name=spec.name)
        id = str(answer["Id"])
        if quota:
            self._own_quota[id] = quota
        try:
            for network, address in mapped.more_networks:
                body = {"Container": id, "EndpointConfig": endpoint(address)}
                await self._change("POST", f"/networks/{network}/connect", body=body)
        except BaseException:
            await shielded(self._take_back(id))
            raise
        return Created(id=id)

    async def _take_back(self, id: str) -> None:
        try:
            await self.remove(id, force=True)
        except EngineError:
            return  # the first error is told; recovery finds the rest by the intent's name

    async def start(self, id: str) -> None:
        async with self._starts:
            try:
                await self._change("POST", f"/containers/{id}/start")
            except EngineRefused as error:
                raise await self._with_asked_ulimit(id, error) from error
            quota = self._own_quota.get(id)
            if quota:
                await self._change("POST", f"/containers/{id}/update", body={"CpuQuota": quota})
                self._own_quota.pop(id, None)

    async def _with_asked_ulimit(self, id: str, error: EngineRefused) -> EngineRefused:
        """Docker says which limit it refused, not which number was asked for."""
        refused = ULIMIT_REFUSED.search(str(error))
        if refused is None:
            return error
        found = await self._read(f"/containers/{id}/json")
        asked = {entry["Name"]: entry["Hard"] for entry in found["HostConfig"].get("Ulimits") or []}
        number = asked.get(refused[1])
        return EngineRefused(str(error).replace(f"{refused[1]}:", f"{refused[1]}={number}:", 1)) if number else error

    async def stop(self, id: str, grace_s: float | None = None) -> None:
        query = {} if grace_s is None else {"t": max(math.ceil(grace_s), 0)}
        timeout_s = self._settings.change_timeout_s + (grace_s or 0.0)
        try:
            await self._change("POST", f"/containers/{id}/stop", timeout_s=timeout_s, **query)
        except EngineRefused as error:
            if "paused" not in str(error).lower():
                raise
            await self.resume(id)
            await self._change("POST", f"/containers/{id}/stop", timeout_s=timeout_s, **query)

    async def remove(self, id: str, *, force: bool = False, volumes: bool = True) -> None:
        self._own_quota.pop(id, None)
        try:
            await self._change("DELETE", f"/containers/{id}", force=int(force), v=int(volumes))
        except EngineRefused as error:
            if "already in progress" not in str(error):
                raise
            await self._until_gone(id)

    async def _until_gone(self, id: str) -> None:
        """Somebody else is removing it: done when it is gone."""
        deadline = self._world.clock.monotonic() + REMOVAL_WAIT_S
        while self._world.clock.monotonic() < deadline:
            try:
                await self.inspect(id)
            except EngineMissing:
                return
            await self._world.clock.sleep(0.1)
        raise EngineRefused(f"docker has been removing {id} for more than {REMOVAL_WAIT_S:g} s: look at its log")

    async def inspect(self, id_or_name: str) -> Inspection:
        return inspection(await self._read(f"/containers/{id_or_name}/json"), self._http.address.node_ip)

    async def find(self, labels: Mapping[str, str], *, running_only: bool = False) -> list[Listed]:
        wanted = [f"{name}={value}" if value else name for name, value in sorted(labels.items())]
        rows = await self._read("/containers/json", all=int(not running_only), filters=filters(label=wanted))
        return [
            Listed(
                id=row["Id"],
                name=(row.get("Names") or [""])[0].lstrip("/"),
                running=row.get("State") in ("running", "paused"),
                labels=row.get("Labels") or {},
            )
            for row in rows
        ]

    async def wait(self, id: str) -> int:
        async with self._http.stream("POST", f"/containers/{id}/wait", query={"condition": "not-running"}) as chunks:
            text = b"".join([chunk async for chunk in chunks])
        return exit_status(text)

    async def suspend(self, id: str) -> None:
        await self._change("POST", f"/containers/{id}/pause")

    async def resume(self, id: str) -> None:
        await self._change("POST", f"/containers/{id}/unpause")

    async def update(self, id: str, params: Resources) -> None:
        if not self._ncpu:
            self._ncpu = int((await self._read("/info")).get("NCPU") or 1)
        body = update_limits(merged(params), self._limits, self._ncpu)
        if body:
            await self._change("POST", f"/containers/{id}/update", body=body)


def burst(host: dict[str, Any], cpu: float) -> int:
    """Raise the CPU quota to `cpu` cores for the start; the quota to set afterwards, 0 when nothing was changed.

    If this process dies in between, the container is not recorded yet and gets swept.
    """
    own = int(host.get("CpuQuota") or 0)
    wanted = int(cpu * CPU_PERIOD_US)
    if not 0 < own < wanted:
        return 0
    host["CpuQuota"] = wanted
    return own


def inspection(found: Mapping[str, Any], node_ip: str) -> Inspection:
    """Docker's JSON of one container. On the host network its address is the node's."""
    config, state = found["Config"], found["State"]
    running = bool(state.get("Running"))
    networks = {}
    if running:
        for name, entry in sorted((found.get("NetworkSettings", {}).get("Networks") or {}).items()):
            networks[name] = (node_ip or "127.0.0.1") if name == "host" else entry.get("IPAddress") or ""
    return Inspection(
        id=found["Id"],
        name=found["Name"].lstrip("/"),
        running=running,
        user=config.get("User") or "",
        image=config.get("Image") or "",
        env=config.get("Env") or [],
        labels=config.get("Labels") or {},
        networks=networks,
        exit_code=int(state.get("ExitCode") or 0),
        started_at=_unix(state.get("StartedAt") or ""),
        pid=int(state.get("Pid") or 0),
        tty=bool(config.get("Tty")),
        paused=bool(state.get("Paused")),
        finished_at=_unix(state.get("FinishedAt") or ""),
        oom_killed=bool(state.get("OOMKilled")),
        restarts=int(found.get("RestartCount") or 0),
        error=state.get("Error") or "",
    )


def exit_status(text: bytes) -> int:
    """Of the answer to a wait. Raises EngineRefused when Docker could not wait."""
    answer = msgspec.json.decode(text)
    if (answer.get("Error") or {}).get("Message"):
        raise EngineRefused(str(answer["Error"]["Message"]))
    return int(answer["StatusCode"])


def _unix(text: str) -> float:
    """Seconds since the epoch; 0 for Docker's "never" (year 1)."""
    if not text or text.startswith("0001"):
        return 0.0
    return stamp_ns(text) / 1e9
