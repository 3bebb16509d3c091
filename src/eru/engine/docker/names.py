"""Image names: registry, repository, tag and digest taken apart, registry ports included. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import msgspec

from eru.engine.docker.settings import RegistryAuth

HUB = "docker.io"
_HUB_KEYS = (HUB, "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/")


def split_image(image: str) -> tuple[str, str]:
    """(name, tag or digest) of `[host[:port]/]path[:tag|@digest]`; "" when neither is there."""
    name, at, digest = image.partition("@")
    if at:
        slash = name.rfind("/")
        colon = name.rfind(":")
        return (name[:colon] if colon > slash else name), digest
    colon = image.rfind(":")
    if colon > image.rfind("/"):
        return image[:colon], image[colon + 1 :]
    return image, ""


def registry_of(image: str) -> str:
    """The registry's host, with its port."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return HUB


def auth_header(image: str, auths: Mapping[str, RegistryAuth]) -> dict[str, str]:
    """The header that carries the credentials for the image's registry; always there, Docker wants one."""
    host = registry_of(image)
    found = next((auths[key] for key in (_HUB_KEYS if host == HUB else (host,)) if key in auths), None)
    plain = {"username": found.username, "password": found.password, "serveraddress": host} if found else {}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(msgspec.json.encode(plain)).decode()}


def config_header(auths: Mapping[str, RegistryAuth]) -> dict[str, str]:
    """All credentials, for builds that pull base images."""
    plain = {host: {"username": auth.username, "password": auth.password} for host, auth in auths.items()}
    return {"X-Registry-Config": base64.urlsafe_b64encode(msgspec.json.encode(plain)).decode()}
