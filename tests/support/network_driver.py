"""A network plugin of the smallest size: Docker's remote driver protocol over a socket, endpoints are veth pairs.

Docker finds it by its socket in /run/docker/plugins. Networks made with it
have to be removed before it ends, else Docker looks for it ever after.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

PLUGINS = Path("/run/docker/plugins")


class NetworkDriver:
    """`asked`: the calls that Docker has made, (name, body)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._gateways: dict[str, str] = {}

    def calls(self) -> list[str]:
        return [name for name, _ in self.asked]

    def answer(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((call, body))
        end = "t" + body.get("EndpointID", "")[:10]
        if call == "Plugin.Activate":
            return {"Implements": ["NetworkDriver"]}
        if call == "NetworkDriver.GetCapabilities":
            return {"Scope": "local"}
        if call == "NetworkDriver.CreateNetwork":
            self._gateways[body["NetworkID"]] = body["IPv4Data"][0]["Gateway"]
        elif call == "NetworkDriver.CreateEndpoint":
            _ip("link", "add", f"{end}h", "type", "veth", "peer", "name", f"{end}c")
            _ip("addr", "add", self._gateways[body["NetworkID"]], "dev", f"{end}h")
            _ip("link", "set", f"{end}h", "up")
            return {"Interface": {}}
        elif call == "NetworkDriver.Join":
            gateway = self._gateways[body["NetworkID"]].partition("/")[0]
            return {"InterfaceName": {"SrcName": f"{end}c", "DstPrefix": "plug"}, "Gateway": gateway}
        elif call == "NetworkDriver.DeleteEndpoint":
            _ip("link", "del", f"{end}h")
        elif call == "NetworkDriver.EndpointOperInfo":
            return {"Value": {}}
        return {}


@contextmanager
def network_driver(name: str) -> Iterator[NetworkDriver]:
    """Answers Docker until the block ends."""
    driver = NetworkDriver(name)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            try:
                answer = driver.answer(self.path.strip("/"), body)
            except (KeyError, subprocess.CalledProcessError) as error:
                answer = {"Err": str(error)}
            text = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.docker.plugins.v1.2+json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def address_string(self) -> str:
            return "docker"

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingMixIn, UnixStreamServer):
        daemon_threads = True

    PLUGINS.mkdir(parents=True, exist_ok=True)
    place = PLUGINS / f"{name}.sock"
    server = Server(str(place), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield driver
    finally:
        server.shutdown()
        server.server_close()
        place.unlink(missing_ok=True)


def _ip(*arguments: str) -> None:
    subprocess.run(
        ["ip", *arguments],
        check=True,
        capture_output=True,
        env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
    )
