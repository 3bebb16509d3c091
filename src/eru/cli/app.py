"""The tree of commands and the edge where every failure becomes words and an exit code.

Light by contract: nothing here imports grpc, numpy or a command's body; a
command is loaded when it is used.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from eru import __version__
from eru.cli.lazy import LazyGroup, Rare, UnknownWord
from eru.cli.settings import DEFAULT_ADDRESS, PUBLISHED, Settings, complete_format, format_name, sources_of

_CORE = {
    "info": ("eru.cli.core.group:info", "Version and identity of core"),
    "watch": ("eru.cli.core.group:watch", "Follow the list of running cores"),
}
_NOUNS = {
    "pod": ("eru.cli.pod.group:group", "Pods: sets of nodes"),
    "node": ("eru.cli.node.group:group", "Nodes: machines with an engine"),
    "workload": ("eru.cli.workload.group:group", "Workloads: deploy, list, logs, exec, scale, remove"),
    "image": ("eru.cli.image.group:group", "Images on the nodes: build, cache, list, remove"),
    "network": ("eru.cli.network.group:group", "Connect workloads to networks"),
    "lambda": ("eru.cli.workload.lambda_:lambda_", "Run a command in a new workload and wait for it"),
    "status": ("eru.cli.cluster.status:status", "What runs now, and what changes"),
}
_OURS = {
    "context": ("eru.cli.context.group:group", "Clusters by name: which one commands talk to"),
    "logs": ("eru.cli.workload.logs:logs", "What an app, or workloads, print: one stream in time order"),
    "exec": ("eru.cli.workload.exec:exec_", "Run a command in a workload, or in one instance of an app"),
    "events": ("eru.cli.cluster.events:events", "What happened to workloads and nodes, and why"),
    "tui": ("eru.cli.tui.command:tui", "The cluster live in this terminal: lists, logs, shell, events by one key"),
    "top": ("eru.cli.cluster.top:top", "CPU and memory in use, live: instances, an app, nodes"),
    "why": ("eru.cli.cluster.why:why", "An instance's life in five lines"),
    "wait": ("eru.cli.cluster.wait:wait", "Wait until workloads are running or healthy"),
    "doctor": ("eru.cli.cluster.doctor:doctor", "Check core, nodes, agents and Docker; each problem with its cure"),
    "run": ("eru.cli.apps.run:run", "Run an image, without a file"),
    "init": ("eru.cli.apps.init:init", "Write a first spec: from an image, from what runs"),
    "import": ("eru.cli.apps.import_:import_", "Specs from a compose file"),
    "spec": ("eru.cli.spec.group:group", "App specs: check them, examples, schema"),
    "support": ("eru.cli.cluster.support.group:group", "A bundle for those who help you, without secrets"),
    "explain": ("eru.cli.spec.explain:explain", "The keys of a spec and the messages of the API, offline"),
    "version": ("eru.cli.cluster.version:version", "Of this program and of every core"),
    "completion": ("eru.cli.completion:completion", "Completion of commands and names for bash, zsh, fish"),
}
_PROCESSES = {
    "up": ("eru.roots.local:up", "Start core and agent on this machine"),
    "down": ("eru.roots.local:down", "Stop them and remove what they made"),
    "core": ("eru.cli.core.group:group", "Run a core here; or ask about the one that runs"),
    "agent": ("eru.roots.agent:command", "Run the agent of this node"),
}
_SECTIONS = {
    "Run apps": ("run", "init", "import", "spec", "workload", "lambda"),
    "Look": ("status", "logs", "exec", "events", "why", "top", "tui", "wait"),
    "Run a cluster": ("pod", "node", "image", "network", "doctor", "support"),
    "Processes": ("up", "down", "core", "agent"),
    "This program": ("context", "version", "explain", "completion"),
}
INTERRUPTED = 130
_ALIASES = {"container": "workload", "ctx": "context"}

_EXAMPLES = """
eru up                                             a core and an agent on this machine
eru workload deploy web.yaml --pod eru --entry web --image web --count 3
eru status                                         what runs, and what changes
"""

_CLI_EXAMPLES = """
eru pod list
eru workload deploy --pod eru --entry web --image web --count 3 web.yaml
eru workload list
"""


def _version_text() -> str:
    """Five lines, as the published program prints them."""
    system = f"{sys.platform}/{os.uname().machine}"
    return "\n".join(
        (
            f"Version:        {__version__}",
            "Git hash:       -",
            "Built:          -",
            f"Python version: {sys.version.split()[0]}",
            f"OS/Arch:        {system}",
        )
    )


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(_version_text())
        ctx.exit(0)


def _root(program: str, lazy: dict[str, tuple[str, str]], examples: str, published: bool) -> LazyGroup:
    """The top group; `published` keeps `-v` for the version, as the published program has it."""

    @click.pass_context
    def callback(ctx: click.Context, /, **values: Any) -> None:
        values["verbose"] |= values.pop("debug")
        values["output"] = format_name(values["output"], strict=not published)
        ctx.obj = Settings(program=program, argv=tuple(ctx.obj or ()), sources=sources_of(ctx), **values)

    return LazyGroup(
        name=program,
        callback=callback,
        lazy=lazy,
        sections=_SECTIONS,
        plugins=not published,
        aliases=_ALIASES,
        examples=examples,
        help="Schedules and runs workloads on many machines.",
        epilog="Exit codes: "
        + (
            "0 done, 1 parts failed, 3 unknown word, 255 any other error."
            if published
            else "0 done, 1 failed or only partly done, 2 wrong usage, 4 not found, 5 refused."
        ),
        context_settings={"help_option_names": ["-h", "--help"], "terminal_width": _help_width()},
        params=_global_options(published),
    )


HELP_WIDTH_MAX = 100  # columns; longer lines are hard to read


def _help_width() -> int:
    """Columns for help. Said to click, which would load a large library to ask the terminal."""
    columns = os.environ.get("COLUMNS", "")
    try:
        size = int(columns) if columns.isdigit() and int(columns) else os.get_terminal_size(1).columns or 80
    except OSError:
        size = 80
    return max(min(size, HELP_WIDTH_MAX) - 2, 50)


def _global_options(published: bool) -> list[click.Parameter]:
    switch: dict[str, Any] = {"is_flag": True}
    return [
        click.Option(["-e", "--eru"], envvar="ERU", default=DEFAULT_ADDRESS, show_default=True, show_envvar=True,
                     metavar="ADDRESS", help="Core: host:port, several with commas, eru://host:port to discover."),
        click.Option(["-u", "--username"], envvar="ERU_USERNAME", default="", show_envvar=True, help="Login name."),
        click.Option(["-p", "--password"], envvar="ERU_PASSWORD", default="", show_envvar=True,
                     help="Password; the variable keeps it out of process lists."),
        click.Option(["--context"], envvar="ERU_CONTEXT", default="", show_envvar=True, metavar="NAME",
                     shell_complete=_context_names, help="Cluster, by its name; `eru context list` shows them."),
        click.Option(["-o", "--output"], envvar="ERU_OUTPUT_FORMAT", default="", show_envvar=True,
                     metavar="FORMAT", shell_complete=complete_format,
                     help="table, wide, json, yaml, jsonl, name or template=TEXT."),
        Rare(["--json", "fields"], default="", metavar="FIELDS",
                     help="Only these fields, with commas between; ? lists them."),
        Rare(["--utc"], help="Times as dates in UTC, not as ages.", **switch),
        Rare(["--expand"], help="Open the JSON inside strings in json and yaml output.", **switch),
        click.Option(["-q", "--quiet"], help="Only data and errors.", **switch),
        click.Option(["--verbose"] if published else ["-v", "--verbose"],
                     help="Show each call and its time.", **switch),
        click.Option(["-d", "--debug"], hidden=True, **switch),
        Rare(["--tls"], envvar="ERU_TLS", help="Speak TLS to core.", **switch),
        Rare(["--tls-ca"], envvar="ERU_TLS_CA", default="", metavar="FILE",
                     help="Authority of core's certificate."),
        Rare(["--tls-cert"], envvar="ERU_TLS_CERT", default="", metavar="FILE", help="Own certificate."),
        Rare(["--tls-key"], envvar="ERU_TLS_KEY", default="", metavar="FILE", help="Own private key."),
        Rare(["--tls-server-name"], envvar="ERU_TLS_SERVER_NAME", default="", metavar="NAME",
                     help="Name in core's certificate, if not the address."),
        click.Option(["-v", "--version"] if published else ["-V", "--version"], is_eager=True, expose_value=False,
                     callback=_show_version, help="Show the version.", **switch),
    ]  # fmt: skip


def _context_names(ctx: click.Context, param: click.Parameter, text: str) -> list[str]:
    from eru.cli.context import file

    return [name for name in file.read().known if name.startswith(text)]


def root() -> LazyGroup:
    """`eru`: everything."""
    return _root("eru", {**_PROCESSES, **_NOUNS, **_OURS}, _EXAMPLES, published=False)


def published_root() -> LazyGroup:
    """`eru-cli`: a drop-in for the published program."""
    core = ("eru.cli.core.group:client_group", "Information about core")
    return _root(PUBLISHED, {"core": core, **_NOUNS, **_OURS}, _CLI_EXAMPLES, published=True)


def run(group: click.Command, program: str, args: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code. Nothing escapes as a traceback."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own log lines are no talk of ours
    streams = sys.stdout, sys.stderr
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # boxes on a terminal that has none are no reason to fail
    _complete(group, program)
    try:
        words = list(sys.argv[1:] if args is None else args)
        result = group.main(args=list(words), prog_name=program, standalone_mode=False, obj=words)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0 if program == PUBLISHED else 2
    except BrokenPipeError:
        _mute_stdout()
        return 0
    except SystemExit:
        if (sys.stdout, sys.stderr) == streams:
            raise
        sys.stdout, sys.stderr = streams  # click replaces them when the reader of a pipe left
        _mute_stdout()
        return 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last edge: no traceback unasked
        return _failed(error, program)
    except BaseException as error:
        if type(error).__name__ != "CancelledError":  # asyncio is not imported for this
            raise
        return INTERRUPTED


def _failed(error: BaseException, program: str) -> int:
    """Tell what went wrong; the exit code."""
    from eru.cli.exits import Problem, explain
    from eru.model.errors import EruError

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        return _tell(_usage_problem(error), program, unknown_word=isinstance(error.__cause__, UnknownWord))
    if isinstance(error, Problem):
        return _tell(error, program)
    if isinstance(error, EruError):
        return _tell(explain(error), program)
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return _tell(_not_text(str(error.object)), program)
    if isinstance(error, OSError):
        return _tell(Problem(f"{error.filename or 'input/output'}: {error.strerror or error}"), program)
    return _tell_bug(error, program)


def _complete(group: click.Command, program: str) -> None:
    """Answer the shell when it asks for completions."""
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    instruction = os.environ.get(variable, "")
    if not instruction:
        return
    if not instruction.endswith("_complete"):  # the script itself
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(group, {}, program, variable, instruction))
    from eru.cli import name_cache
    from eru.cli.context.place import place
    from eru.lib import wall

    path = name_cache.of_line(program, __version__, place())
    held = name_cache.load(path, wall.now_s())
    if held is not None and (held[1] < name_cache.FRESH_S or name_cache.renew()):
        sys.stdout.write("".join(held[0]))
        sys.exit(0)
    sys.exit(_answer(group, program, variable, instruction, path))


def _answer(group: click.Command, program: str, variable: str, instruction: str, path: Path) -> int:
    """Find out what the shell is to offer, and keep it."""
    from click.shell_completion import shell_complete

    from eru.cli import name_cache
    from eru.lib import wall

    written = io.BytesIO()
    told = io.TextIOWrapper(written, encoding="utf-8", write_through=True)
    with redirect_stdout(told):
        code = shell_complete(group, {}, program, variable, instruction)
    text = written.getvalue().decode()
    if text:
        name_cache.save(path, [text], wall.now_s())
    sys.stdout.write(text)
    return code


def _usage_problem(error: click.ClickException) -> Any:
    from eru.cli.exits import Exit, Problem

    hint = ""
    if isinstance(error.__cause__, UnknownWord) and str(error.__cause__):
        hint = str(error.__cause__)
    elif isinstance(error, click.NoSuchOption) and error.possibilities:
        from eru.cli.suggest import did_you_mean

        hint = did_you_mean(error.option_name, error.possibilities)
    ctx = getattr(error, "ctx", None)
    if ctx is not None and not hint:
        hint = f"see `{ctx.command_path} --help`"
    message = error.message if isinstance(error, click.NoSuchOption) else error.format_message()
    message = message.rstrip(".")
    return Problem(message[:1].lower() + message[1:], hint=hint, code=Exit.USAGE)


def _tell(problem: Any, program: str, *, unknown_word: bool = False) -> int:
    from eru.cli.exits import PUBLISHED_ERROR, PUBLISHED_UNKNOWN_WORD
    from eru.cli.show.talk import Talk

    sys.stdout.flush()
    Talk(program=program).problem(problem)
    if program != PUBLISHED or problem.code == INTERRUPTED:
        return int(problem.code)
    return PUBLISHED_UNKNOWN_WORD if unknown_word else PUBLISHED_ERROR


def _not_text(text: str) -> Any:
    """A word of the command line, or a variable, has bytes that are no UTF-8; the API takes text only."""
    from eru.cli.exits import usage

    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return usage(
        f"'{shown[:80]}' is not text: it has bytes that are not UTF-8", hint="core takes names and values in UTF-8"
    )


def _tell_bug(error: BaseException, program: str) -> int:
    """A defect of ours: said in one sentence, with the traceback on demand."""
    from eru.cli.exits import Problem

    if os.environ.get("ERU_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    what = f"internal error: {type(error).__name__}: {error}"
    return _tell(Problem(what, hint="this is a defect; ERU_TRACEBACK=1 shows where"), program)


def _mute_stdout() -> None:
    """The reader of a pipe left; keep the interpreter from complaining at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
