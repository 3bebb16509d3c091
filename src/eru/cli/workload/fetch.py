"""Workloads by their ids, all of them or a reason."""

from __future__ import annotations

from eru.cli.exits import Exit, Problem, code_of, explain, not_found
from eru.cli.session import Session
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


async def fetched(session: Session, wanted: list[str]) -> list[pb.Workload]:
    """Everything core knows of these. Raises Problem that names the one that is missing."""
    try:
        return list((await session.unary(rpc.GetWorkloads, pb.WorkloadIDs(IDs=wanted))).workloads)
    except RemoteError as error:
        raise await absent(session, wanted, error) from None


async def absent(session: Session, wanted: list[str], error: RemoteError) -> Problem:
    """Core answers for all ids or for none; say which one is missing."""
    if code_of(error.kind, str(error)) != Exit.NOT_FOUND:
        return explain(error)
    known = {each.id for each in await session.collect(rpc.ListWorkloads, pb.ListWorkloadsOptions())}
    missing = [each for each in wanted if each not in known] or wanted
    return not_found(
        f"there is no workload {', '.join(missing)}", why=f"core says: {error}", hint="`eru workload list` shows them"
    )
