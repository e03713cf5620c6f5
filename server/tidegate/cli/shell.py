"""`tidegate shell`: calls of a running server's commands, one after the other."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from tidegate.cli.arguments import is_secret
from tidegate.cli.call import ask, call, candidates, tell
from tidegate.cli.commands import explain, listed, usage
from tidegate.cli.display import dumped, echo, note, printable, show_fault
from tidegate.cli.options import REFUSED
from tidegate.cli.remote import Remote, described, reason_of, remote
from tidegate.faults import Fault
from tidegate.nearest import hint

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer
    from prompt_toolkit.document import Document

    from tidegate.client import Client

_OWN = {"help": "list the commands; help METHOD explains one", "exit": "leave, as Ctrl-D does"}


@click.command()
@remote
def shell(remote: Remote) -> None:
    """Call commands by name, with completion and history.

    Each line is what `tidegate call` takes, over one connection: log in once, then go on. What the
    server sends by itself is printed as it comes. The history is kept in
    $XDG_STATE_HOME/tidegate/history, without passwords and tokens: leave them out and they are asked
    for. Lines may also come from a pipe; then the exit code is 1 if any of them failed.

    \b
    Examples:
      tidegate shell
      tidegate shell --data ./data
      echo "system.ping" | tidegate shell
    """
    with remote.connected() as client:
        Shell(remote, client).run()


class Shell:
    """One connection, and what is known about its commands."""

    def __init__(self, remote: Remote, client: Client) -> None:
        self.remote = remote
        self.client = client
        self.methods: dict[str, dict[str, Any]] = {}
        self.failed = False
        self.answered = threading.Event()  # there is a connection to hear on
        self.answered.set()
        self.learn()

    def learn(self) -> None:
        """What this caller may use; logging in changes it."""
        self.methods = described(self.client)

    def run(self) -> None:
        if not sys.stdin.isatty():
            try:
                for line in sys.stdin:
                    self.obey(line)
            except EOFError:  # exit
                pass
            sys.exit(REFUSED if self.failed else 0)
        echo(f"{len(self.methods)} commands at {self.remote.name}: `help` lists them, Tab completes, Ctrl-D leaves")
        with ExitStack() as stack:
            session = self._session(stack)
            threading.Thread(target=self._hear, daemon=True).start()
            try:
                for line in self._lines(session):
                    self.obey(line)
            except EOFError:
                pass

    def _session(self, stack: ExitStack) -> PromptSession[str]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
        from prompt_toolkit.history import History, InMemoryHistory
        from prompt_toolkit.patch_stdout import patch_stdout

        from tidegate.cli import history

        kept: History = InMemoryHistory()
        try:
            kept = history.History(history.history_file(), lambda: self.methods)
        except OSError as error:
            note(f"no history is kept: {error}")
        stack.enter_context(patch_stdout(raw=True))
        return PromptSession(
            history=kept,
            completer=completer(self),
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            bottom_toolbar=self._toolbar,
        )

    def _lines(self, session: PromptSession[str]) -> Iterator[str]:
        while True:
            try:
                yield session.prompt(f"{self.remote.name}> ")
            except KeyboardInterrupt:
                continue

    def _toolbar(self) -> str:
        """How the command that is being typed is called."""
        from prompt_toolkit.application import get_app

        name = get_app().current_buffer.text.partition(" ")[0]
        if (method := self.methods.get(name)) is None:
            return ""
        return printable(" ".join([name, *map(usage, method["params"])]) + "   " + method.get("summary", ""))

    def _hear(self) -> None:
        """Print what the server sends by itself, on whatever connection there is."""
        while True:
            self.answered.wait()
            try:
                for push in self.client.pushes():
                    echo(f"{click.style(printable(push.method), fg='magenta')} {dumped(push.params)}")
            except (OSError, Fault) as error:
                self.answered.clear()
                why = reason_of(error) if isinstance(error, OSError) else str(error)
                note(f"{why}; the next call connects anew")

    # --- one line ---------------------------------------------------------------------------------

    def obey(self, line: str) -> None:
        """Carry out one line; whatever is wrong with it is shown."""
        try:
            if words := shlex.split(line, comments=True):
                self._obey(words)
            return
        except click.exceptions.Exit:  # --help
            return
        except Fault as fault:
            show_fault(fault)
        except ValueError as error:
            note(f"{line.strip()}: {str(error).lower()}")
        except click.Abort:
            note("given up")
        except click.ClickException as error:
            note(error.format_message())
        except OSError as error:
            note(f"{self.remote.name}: {reason_of(error)}")
        except KeyboardInterrupt:
            note("no longer waited for; the server may still carry it out")
        self.failed = True

    def _obey(self, words: list[str]) -> None:
        name, *rest = words
        if name == "help" and name not in self.methods:
            return self._help(rest)
        if name in ("exit", "quit") and name not in self.methods:
            raise EOFError
        if name == "call":
            words = rest
        given = call.make_context("call", words).params
        method = given["method"]
        names = ("method", "arguments", "whole", "key", "trace", "timeout")
        reply = ask(self.client, lambda: self.known(method), **{name: given[name] for name in names})
        self.answered.set()
        tell(reply, given["as_json"])
        if any(map(is_secret, self.methods.get(method, {"params": ()})["params"])):
            self.learn()  # logging in and out changes what may be called

    def known(self, method: str) -> dict[str, Any] | None:
        """One command; a name that is new is looked for at the server."""
        if method not in self.methods:
            self.learn()
        return self.methods.get(method)

    def _help(self, words: list[str]) -> None:
        self.learn()
        if not words:
            listed(self.methods)
            return echo("\n" + "\n".join(f"{name}: {text}" for name, text in _OWN.items()))
        if (method := self.methods.get(words[0])) is None:
            raise click.UsageError(f"no command is called {words[0]!r}{hint(words[0], self.methods)}")
        explain(method, before="")


def completer(shell: Shell) -> Completer:
    """Commands first, then their parameters, then the values that are known."""
    from prompt_toolkit.completion import Completer, Completion

    class Words(Completer):
        def get_completions(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
            words = document.text_before_cursor.split(" ")
            typed = words[-1]
            if len(words) == 1 or (len(words) == 2 and words[0] in ("help", "call")):
                known = {name: method.get("summary", "") for name, method in shell.methods.items()}
                found = [*known.items(), *(_OWN.items() if len(words) == 1 else ())]
                found = [(name, text) for name, text in found if name.startswith(typed)]
            else:
                given = {word.partition("=")[0].removesuffix(":") for word in words[1:-1]}
                found = candidates(shell.methods.get(words[1] if words[0] == "call" else words[0]), given, typed)
            for text, help in found:
                yield Completion(text, start_position=-len(typed), display_meta=printable(help))

    return Words()
