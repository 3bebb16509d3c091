"""Where `eru up` keeps what belongs to the cluster of this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eru.model.errors import InvalidInput


def default_place(environ: Mapping[str, str] = os.environ) -> Path:
    """ERU_STATE, else /var/lib/eru for root, else the user's state directory."""
    if explicit := environ.get("ERU_STATE"):
        return Path(explicit)
    if os.geteuid() == 0:
        return Path("/var/lib/eru")
    return Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "eru"


@dataclass(frozen=True, slots=True)
class State:
    """The paths below one state directory."""

    place: Path

    @property
    def core_config(self) -> Path:
        return self.place / "core.yaml"

    @property
    def agent_config(self) -> Path:
        return self.place / "agent.yaml"

    @property
    def core_pid(self) -> Path:
        return self.place / "core.pid"

    @property
    def agent_pid(self) -> Path:
        return self.place / "agent.pid"

    @property
    def core_log(self) -> Path:
        return self.place / "core.log"

    @property
    def agent_log(self) -> Path:
        return self.place / "agent.log"

    @property
    def data(self) -> Path:
        """The embedded store."""
        return self.place / "data"

    @property
    def agent_data(self) -> Path:
        return self.place / "agent"

    @property
    def images(self) -> Path:
        """Names of images made here, one per line; they go with the cluster."""
        return self.place / "images"

    @property
    def dockerd_pid(self) -> Path:
        """Present when dockerd was started for this cluster."""
        return self.place / "docker" / "dockerd.pid"

    @property
    def up_pid(self) -> Path:
        """Held while `eru up` runs, so that two do not start the same thing."""
        return self.place / "up.pid"

    def everything(self) -> list[Path]:
        """All that is ever made in the directory."""
        made = [self.core_config, self.agent_config, self.core_pid, self.agent_pid, self.core_log, self.agent_log]
        return [*made, self.data, self.agent_data, self.images, self.dockerd_pid.parent, self.up_pid]

    def make(self) -> None:
        """Create the directory, for its owner only. Raises InvalidInput."""
        try:
            self.place.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InvalidInput(
                f"state directory {self.place} cannot be made: {error.strerror}; name another one with --state"
            ) from error
        if not os.access(self.place, os.W_OK | os.X_OK):
            raise InvalidInput(f"state directory {self.place} is not writable; name another one with --state")
