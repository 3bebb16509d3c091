"""`eru up` and `eru down`: a cluster of one machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from eru.cli.lazy import Shown

_STATE = click.option(
    "--state", type=click.Path(path_type=Path), envvar="ERU_STATE", show_envvar=True,
    help="Directory for all its files.  [default: /var/lib/eru for root, else ~/.local/state/eru]",
)  # fmt: skip


@click.command(
    "up",
    cls=Shown,
    examples="""
eru up                                       core, agent, and this machine as a node
eru up --pod web --network none
eru up --state /srv/eru --bind 127.0.0.1:6001 --agent-bind 127.0.0.1:6002     a second one
""",
)
@_STATE
@click.option("--bind", metavar="HOST:PORT", help="Where core listens.  [default: 127.0.0.1:5001]")
@click.option("--agent-bind", metavar="HOST:PORT", help="Where the agent listens.  [default: 127.0.0.1:12345]")
@click.option("--engine", metavar="ENDPOINT", help="Docker Engine.  [default: DOCKER_HOST or its usual socket]")
@click.option("--pod", help="Pod of this machine.  [default: eru]")
@click.option("--node", help="Name of this machine.  [default: its host name]")
@click.option("--network", help="Network of workloads that ask for none.  [default: bridge]")
@click.option("--etcd", multiple=True, metavar="HOST:PORT", help="Keep the facts in etcd; repeat for each member.")
def up(
    state: Path | None,
    bind: str | None,
    agent_bind: str | None,
    engine: str | None,
    pod: str | None,
    node: str | None,
    network: str | None,
    etcd: tuple[str, ...],
) -> None:
    """Start a core and an agent here, and add this machine as a node.

    What already runs stays as it is, so it can be typed again at any time.
    The options shape a new cluster; one that is set up keeps its core.yaml
    and agent.yaml in the state directory.
    """
    from eru.lib.world import real_world
    from eru.roots.files import Wanted
    from eru.roots.state import State, default_place
    from eru.roots.up import Up

    wanted = Wanted(bind=bind, agent_bind=agent_bind, engine=engine, pod=pod, node=node, etcd=etcd, network=network)
    place = (state or default_place()).absolute()
    asyncio.run(Up(real_world(), State(place), wanted, _say).run())


@click.command("down", cls=Shown, examples="eru down\neru down --purge     workloads, images, data and files, too")
@_STATE
@click.option("--purge", is_flag=True, help="Also remove its containers, images, data and files.")
def down(state: Path | None, purge: bool) -> None:
    """Stop the core and the agent of this machine.

    Workloads go on; `eru up` takes them over again. With --purge they are
    removed, with everything else that was made here.
    """
    from eru.lib.world import real_world
    from eru.roots.down import Down
    from eru.roots.state import State, default_place

    place = (state or default_place()).absolute()
    asyncio.run(Down(real_world(), State(place), purge, _say).run())


def _say(text: str) -> None:
    click.echo(f"==> {text}")
