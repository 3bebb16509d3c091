"""Looking inside workloads: commands, logs, files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable

from eru.core.app import Core
from eru.core.ops import attach, execute, files, logs
from eru.core.service.parts import mapped
from eru.engine.contract import Stream
from eru.model.errors import InvalidInput
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1
from eru.wire.convert.deploy import checked_list, checked_text, workload_id
from eru.wire.convert.deploy import files as files_to_send
from eru.wire.convert.workloads import ids
from eru.wire.routes import Call, Route, both, stream

_STREAMS = {Stream.STDOUT: pb.STDOUT, Stream.STDERR: pb.STDERR}


def output_message(output: execute.Output) -> pb.AttachWorkloadMessage:
    return pb.AttachWorkloadMessage(workload_id=output.id, data=output.data, std_stream_type=_STREAMS[output.stream])


def line_message(line: logs.LogLine) -> pb.LogStreamMessage:
    return pb.LogStreamMessage(id=line.id, error=line.error, data=line.data, std_stream_type=_STREAMS[line.stream])


def ordered_line_message(line: logs.LogLine) -> v1.LogLine:
    return v1.LogLine(
        id=line.id,
        name=line.name,
        nodename=line.nodename,
        data=line.data,
        std_stream_type=_STREAMS[line.stream],
        time_ns=line.time_ns,
        error=line.error,
    )


def piece_message(piece: files.CopyPiece) -> pb.CopyMessage:
    return pb.CopyMessage(id=piece.id, name=piece.name, path=piece.path, error=piece.error, data=piece.data)


def sent_message(sent: files.Sent) -> pb.SendMessage:
    return pb.SendMessage(id=sent.id, path=sent.path, error=sent.error)


def file_chunk(options: pb.FileOptions) -> files.FileChunk:
    """Missing mode and owner count as 0. Raises InvalidInput."""
    return files.FileChunk(
        ids=[workload_id(id) for id in options.ids],
        path=options.dst,
        size=options.size,
        data=options.chunk,
        mode=options.mode.mode,
        uid=options.owner.uid,
        gid=options.owner.gid,
    )


def command_words(words: Iterable[str]) -> list[str]:
    """The command without a leading `--`, which the published cli's own usage makes users send."""
    commands = checked_list("commands", words)
    return commands[1:] if commands[:1] == ["--"] else commands


async def first_of(requests: AsyncIterator[pb.ExecuteWorkloadOptions]) -> pb.ExecuteWorkloadOptions:
    """Raises InvalidInput when the client says nothing."""
    async for request in requests:
        return request
    raise InvalidInput("the stream ended before its first message, which names workload and commands")


def routes(core: Core) -> list[Route]:
    async def run(
        requests: AsyncIterator[pb.ExecuteWorkloadOptions], call: Call
    ) -> AsyncGenerator[pb.AttachWorkloadMessage, None]:
        first = await first_of(requests)
        request = execute.ExecRequest(
            id=first.workload_id,  # a wrong one is told as output, like every other failure
            commands=command_words(first.commands),
            env=checked_list("envs", first.envs),
            dir=checked_text("workdir", first.workdir),
            interactive=first.open_stdin,
            tty=call.tty,
        )
        inputs = (later.repl_cmd async for later in requests)
        async for message in mapped(execute.execute(core, request, inputs), output_message):
            yield message

    async def join(
        requests: AsyncIterator[v1.AttachRequest], call: Call
    ) -> AsyncGenerator[pb.AttachWorkloadMessage, None]:
        async for first in requests:
            request = execute.ExecRequest(id=workload_id(first.id), commands=[], interactive=first.stdin, tty=call.tty)
            inputs = (later.input async for later in requests)
            async for message in mapped(attach.attach(core, request, inputs), output_message):
                yield message
            return
        raise InvalidInput("the stream ended before its first message, which names the workload")

    def log(request: pb.LogStreamOptions, call: Call) -> AsyncGenerator[pb.LogStreamMessage, None]:
        wanted = logs.LogRequest(tail=request.tail, since=request.since, until=request.until, follow=request.follow)
        return mapped(logs.log_stream(core, request.id, wanted), line_message)

    def ordered(request: v1.LogsRequest, call: Call) -> AsyncGenerator[v1.LogLine, None]:
        wanted = logs.LogRequest(tail=request.tail, since=request.since, until=request.until, follow=request.follow)
        lines = logs.app_logs(
            core, request.appname, request.entrypoint, [workload_id(id) for id in request.ids], wanted
        )
        return mapped(lines, ordered_line_message)

    return [
        both(rpc.ExecuteWorkload, run),
        both(rpc.Attach, join),
        stream(rpc.LogStream, log),
        stream(rpc.Logs, ordered),
        *_files(core),
    ]


def _files(core: Core) -> list[Route]:
    def copy(request: pb.CopyOptions, call: Call) -> AsyncGenerator[pb.CopyMessage, None]:
        targets = {workload_id(id): checked_list("paths", paths.paths) for id, paths in request.targets.items()}
        return mapped(files.copy(core, targets), piece_message)

    def send(request: pb.SendOptions, call: Call) -> AsyncGenerator[pb.SendMessage, None]:
        wanted = files_to_send(request.data, request.modes, request.owners, defaults=True)
        return mapped(files.send(core, ids(request.IDs), wanted), sent_message)

    def send_large(requests: AsyncIterator[pb.FileOptions], call: Call) -> AsyncGenerator[pb.SendMessage, None]:
        chunks = (file_chunk(options) async for options in requests)
        return mapped(files.send_large(core, chunks), sent_message)

    return [
        stream(rpc.Copy, copy),
        stream(rpc.Send, send),
        both(rpc.SendLargeFile, send_large),
    ]
