"""A resource program that core learns of when its nodes are there already."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from eru.core.ops.nodes import set_node
from eru.model.requests import NodeChange
from eru.resource.external.call import Program
from eru.resource.external.kind import ExternalKind
from eru.resource.registry import builtin_kinds

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "plugins" / "bandwidth"


async def test_a_node_is_told_to_it_when_it_is_said_what_it_has(lab: Any, tmp_path: Path) -> None:
    program = tmp_path / "bandwidth"
    shutil.copy(EXAMPLE, program)
    program.chmod(0o755)
    await lab.add_nodes("n1")
    core = await lab.add_core({**builtin_kinds(), "bandwidth": ExternalKind(Program(program))})
    wanted = {**lab.spec().resources, "bandwidth": {"mbits": 50}}
    [refused] = await lab.deploy(core=core, resources=wanted)
    assert "not enough resource" in str(refused.error)

    has = {"bandwidth": {"mbits": 100}}
    changed = await set_node(core, NodeChange(name="n1", resources=has))
    assert changed.capacity["bandwidth"]["mbits"] == 100
    made = await lab.deploy(core=core, resources=wanted)
    assert not any(each.error for each in made), made
    more = await set_node(core, NodeChange(name="n1", resources=has, delta=True))
    assert more.capacity["bandwidth"]["mbits"] == 200
    assert more.usage["bandwidth"]["mbits"] == 50
