"""`eru completion`."""

from __future__ import annotations

import click

from eru.cli.lazy import Verb

_HOW = {
    "bash": 'add to ~/.bashrc:  eval "$({program} completion bash)"',
    "zsh": 'add to ~/.zshrc:  eval "$({program} completion zsh)"',
    "fish": "run once:  {program} completion fish > ~/.config/fish/completions/{program}.fish",
}


@click.command(
    "completion",
    cls=Verb,
    examples="""
eval "$(eru completion bash)"
eval "$(eru completion zsh)"
eru completion fish > ~/.config/fish/completions/eru.fish
""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, /, shell: str, **_: object) -> int:
    """Print the completion script of a shell. Names of pods, nodes and workloads are completed too."""
    from click.shell_completion import get_completion_class

    program = ctx.find_root().info_name or "eru"
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    script = kind(ctx.find_root().command, {}, program, f"_{program.upper().replace('-', '_')}_COMPLETE").source()
    click.echo(script)
    click.echo("# " + _HOW[shell].format(program=program))
    return 0
