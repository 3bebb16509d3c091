"""Docker engines over `unix://`, `tcp://` and TLS, spoken to directly over HTTP.

address   where an engine is, and its verified TLS context
http      plain calls and streams; every failure becomes one clear sentence
hijack    two-way connections for exec and attach, with half-close also over TLS
frames    Docker's multiplexed output, and lines out of it
mapping   a CreateSpec as Docker's JSON (pure)
limits    CPU, memory and block device limits as Docker's JSON (pure)
refused   what Docker's refusals mean and what to set
engine    the whole contract, put together from life, inside, images and networks
"""

from eru.engine.docker.engine import DockerEngine, open_docker
from eru.engine.docker.settings import DockerSettings, RegistryAuth

__all__ = ["DockerEngine", "DockerSettings", "RegistryAuth", "open_docker"]
