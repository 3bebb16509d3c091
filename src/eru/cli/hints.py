"""The next step after an error that names none: by what went wrong, or else where to look.

Whoever raises a `Problem` knows best and gives its own hint. This is for the
errors that come from core or an engine as they are, and for plain wrong usage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from eru.cli.exits import Exit, Problem, explain
from eru.model.errors import EruError

# what went wrong -> what to do; {0} is the program, groups of the pattern follow
_BY_TEXT = (
    (r"speaks TLS and this client does not", "--tls-ca FILE, or ERU_TLS_CA; --tls if a public authority signed it"),
    (r"not trusted \(certificate has expired\)", "core's operator renews it (tls.cert); your clock may be wrong, too"),
    (r"not trusted \((Hostname|IP address) mismatch", "--tls-server-name NAME, a name that its certificate has"),
    (r"not trusted \(", "--tls-ca FILE: the authority that signed core's certificate"),
    (r"it does not speak TLS", "leave the --tls options and ERU_TLS* away"),
    (r"client's certificate", "--tls-cert FILE --tls-key FILE, signed by what core has as tls.client_ca"),
    (r"not a usable PEM file", "--tls-ca FILE takes certificates in PEM form"),
    (r"is not a PEM file", "a PEM file has lines -----BEGIN and -----END"),
    (r"no such name is known|: is it the right port", "check --eru or ERU; `{0} context show` tells which"),
    (r"core address '.*' is not of the form", "for example --eru 127.0.0.1:5001"),
    (r"pod '?(\S+?)'? already exists", "`{0} pod nodes {1}` shows what is in it; or take another name"),
    (r"node '?(\S+?)'?: node already exists", "`{0} node set {1}` changes it; or take another name"),
    (r"(?:name|appname) '.*' is not allowed|name is empty", "a good name: web-1"),
    (r"pod (\S+) still has", "`{0} pod nodes {1}` shows them; `{0} node remove NODE` takes one out"),
    (r"node (\S+?): node not empty", "`{0} node drain {1} --remove` empties it"),
    (r"nothing listens at|no Docker socket|fake node '.*' is down", "start the engine there, or correct --endpoint"),
    (r"less than 0: invalid|is more than .* has", "ask for a smaller change; `{0} workload get ID` shows what it has"),
    (r"are in use: invalid resource capacity", "`{0} node workloads NODE` shows by whom"),
    (r"pod '(\S+)' has no nodes that are up", "`{0} pod nodes {1}` shows why"),
    (r"went away during (Execute|RunAndWait)", "what ran inside may go on; `{0} exec ID ps` looks"),
    (r"build_pod is not set", "core's operator names a pod for builds in core.yaml: docker.build_pod"),
    (
        r"does not run, so nothing|[Cc]ontainer \S+ is not running",
        "`{0} workload start ID` starts it; `{0} workload logs ID` may tell why it ended",
    ),
    (r"no network '(\S+?)'|network '?(\S+?)'? not found", "`{0} pod networks POD` shows the networks of a pod"),
    (r"is not connected to network", "`{0} workload get ID` shows its networks"),
    (r"no file '(.*?)[^/]*' in|[Nn]o such (?:container:)?path", "`{0} exec ID ls {1}` shows what is there"),
    (r"not enough resource|cannot alloc", "`{0} pod resource POD` shows what is free; ask for less, or add nodes"),
    (r"not YAML: found character '\\t'", "indent with spaces; YAML takes no tabs"),
    (r"not YAML: mapping values are not allowed", "put text that has a colon into quotes"),
    (r"is not YAML", "mind brackets, quotes and indentation; `{0} spec example` prints a good spec"),
    (r"is empty$|not text: byte|no spec file|: Is a directory", "`{0} spec example` prints a spec to start from"),
    (
        r"the server answered|server cannot be reached|no answer within",
        "check the address, or fetch it and give the file",
    ),
    (r"--file .*no file|--file .*not a plain file", "--file SRC:DST takes one file that is here"),
)
_BY_CODE = {
    Exit.USAGE: "see `{1} --help`",
    Exit.NOT_FOUND: "`{0} workload list`, `{0} node list` and `{0} pod list` show what there is",
    Exit.REFUSED: "`{0} pod status` and `{0} node list` show what there is room for",
    Exit.ERROR: "`{0} doctor` looks for what is wrong",
}


def hint(text: str, program: str) -> str:
    """What to do after an error with this text; "" if the text is not known."""
    for pattern, advice in _BY_TEXT:
        if found := re.search(pattern, text):
            return advice.format(program, *(group or "" for group in found.groups()))
    return ""


def complete(problem: Problem, command: str) -> Problem:
    """The problem with a hint. `command`: the words of the command that failed, `eru pod add`."""
    program = command.partition(" ")[0]
    if not problem.hint:
        problem.hint = hint(problem.what, program)
    if not problem.hint and problem.code in Exit.__members__.values():
        problem.hint = _BY_CODE.get(Exit(problem.code), "").format(program, command)
    return problem


@contextmanager
def advising(command: str) -> Iterator[None]:
    """What fails in the block leaves it as a `Problem` with a hint."""
    try:
        yield
    except EruError as error:
        raise complete(explain(error), command) from error
    except Problem as problem:
        complete(problem, command)
        raise
