"""Networks on Docker: bridge, macvlan and whatever plugins bring."""

from __future__ import annotations

from eru.engine.contract import NetworkInfo
from eru.engine.docker.calls import Calls, filters
from eru.engine.docker.mapping import endpoint


class Networks(Calls):
    """List, connect, disconnect."""

    async def networks(self, driver: str = "") -> list[NetworkInfo]:
        query = {"filters": filters(driver=[driver])} if driver else {}
        rows = await self._read("/networks", **query)
        return [
            NetworkInfo(
                name=row["Name"],
                subnets=[
                    entry["Subnet"] for entry in (row.get("IPAM") or {}).get("Config") or [] if entry.get("Subnet")
                ],
            )
            for row in rows
        ]

    async def connect_network(self, network: str, id: str, ipv4: str = "", ipv6: str = "") -> list[str]:
        body = {"Container": id, "EndpointConfig": endpoint(ipv4, ipv6)}
        await self._change("POST", f"/networks/{network}/connect", body=body)
        found = await self._read(f"/containers/{id}/json")
        entry = ((found.get("NetworkSettings") or {}).get("Networks") or {}).get(network) or {}
        addresses = [entry.get("IPAddress") or ipv4, entry.get("GlobalIPv6Address") or ipv6]
        return [address for address in addresses if address]

    async def disconnect_network(self, network: str, id: str, *, force: bool = False) -> None:
        await self._change("POST", f"/networks/{network}/disconnect", body={"Container": id, "Force": force})
