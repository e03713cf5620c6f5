"""`tidegate completion`: the script that makes a shell complete what is typed."""

from __future__ import annotations

import os

import click
from click.shell_completion import BashComplete, add_completion_class, get_completion_class, split_arg_string


@add_completion_class
class Bash(BashComplete):
    """Click's, for arguments with `=` and addresses with `:`, at both of which bash breaks words."""

    source_template = BashComplete.source_template.replace(
        'COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD', 'COMP_WORDS="${COMP_LINE:0:COMP_POINT}"'
    ).replace(
        "COMPREPLY+=($value)",
        """[[ $value == *=?* && $COMP_WORDBREAKS == *=* ]] && value=${value#*=}
            [[ $value == *= ]] && compopt -o nospace
            COMPREPLY+=("$value")""",
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)[1:]
        incomplete = words.pop() if words and not line[-1:].isspace() else ""
        return words, incomplete


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete `tidegate`.

    It completes subcommands and options, and for `call` the methods of the server that answers and
    their parameters.

    \b
    Once for each shell:
      eval "$(tidegate completion bash)"        # in ~/.bashrc
      eval "$(tidegate completion zsh)"         # in ~/.zshrc
      tidegate completion fish | source         # in ~/.config/fish/config.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "tidegate", "_TIDEGATE_COMPLETE").source())
