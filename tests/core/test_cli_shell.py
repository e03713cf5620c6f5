"""`tidegate shell` on a terminal, as a person uses it, and from a pipe, as a script does."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any

import pytest

SHOP = '''
import gevent
from tidegate import command

@command("shop.buy", params={"what": {"type": "string", "required": True},
                             "how": {"type": "string", "allowed": ["cash", "card"]}})
def buy(what, how="cash"):
    """Buy a thing."""
    return f"{what} for {how}"

@command("shop.login")
def login(name: str, password: str) -> str:
    """Log in."""
    return f"{name} with {len(password)} letters"

@command("shop.tell")
def tell(call, text: str) -> None:
    """Send a push, a little later."""
    server, connection = call.server, call.connection
    server.spawn(lambda: (gevent.sleep(0.2), connection.push(server.frame("event.told", {"text": text}))))

@command("shop.wait")
def wait(call) -> None:
    """Say so, and wait for ever."""
    call.server.log.warning("the call waits")
    gevent.sleep(1000)
'''


@pytest.fixture
def server(served: Any) -> Any:
    return served(source=SHOP)


@pytest.fixture
def shell(terminal: Any, server: Any, tmp_path: Path) -> Any:
    """A shell that has said hello."""

    def start() -> Any:
        words = [sys.executable, "-m", "tidegate", "shell", "--connect", server.addresses[0]]
        # What comes after the shell keeps the terminal open, so that its end can be seen.
        started = terminal(
            "sh", "-c", 'trap : INT; "$@"; echo "ended with $?"; sleep 60', "sh", *words, env=state(tmp_path)
        )
        started.sees(f"\n{server.addresses[0]}>")
        return started

    return start


def state(folder: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(folder / "state")}


def history(folder: Path) -> str:
    return (folder / "state/tidegate/history").read_text()


def enter(shell: Any, line: str) -> None:
    shell.type(line)
    shell.press("Enter")


def test_a_line_is_completed_and_carried_out(shell: Any) -> None:
    one = shell()
    one.type("shop.b")
    one.press("Tab")
    one.sees("> shop.buy")
    one.type(" what='a b' ho")
    one.press("Tab")
    one.sees("' how=")
    one.type("car")
    one.press("Tab")
    one.sees("' how=card")
    one.press("Enter")
    one.sees('"a b for card"')
    one.press("C-d")
    one.sees("ended with 0")


def test_a_fault_ends_a_call_and_not_the_shell(shell: Any) -> None:
    one = shell()
    enter(one, "shop.buy how=cash")
    one.sees("1107 RequiredFieldMissing")
    one.sees("request id")
    enter(one, "shop.buy what='open")
    one.sees("no closing quotation")
    enter(one, "shop.buy what=x")
    one.sees('"x for cash"')


def test_help_lists_and_explains_the_commands(shell: Any) -> None:
    one = shell()
    enter(one, "help")
    one.sees("Buy a thing.")
    enter(one, "help shop.buy")
    one.sees('one of "cash", "card"')
    enter(one, "help shop.by")
    one.sees("did you mean 'shop.buy'?")


def test_what_the_server_sends_by_itself_is_printed_as_it_comes(shell: Any) -> None:
    one = shell()
    enter(one, "shop.tell text=ahoy")
    one.sees('event.told {"text": "ahoy"}')


def test_ctrl_c_gives_up_a_call_and_not_the_shell(shell: Any, server: Any) -> None:
    one = shell()
    enter(one, "shop.wait")
    server.wait_log("the call waits")
    one.press("C-c")
    assert "Traceback" not in one.sees("no longer waited for")
    enter(one, "exit")
    one.sees("ended with 0")


def test_a_restart_of_the_server_is_told_and_survived(shell: Any, server: Any) -> None:
    one = shell()
    port = server.port
    server.stop()
    one.sees("the next call connects anew")
    server._args = [part.replace("=127.0.0.1:0", f"=127.0.0.1:{port}") for part in server._args]
    server.start()
    enter(one, "shop.buy what=more")
    one.sees('"more for cash"')


def test_history_comes_back_and_is_nobody_elses(shell: Any, tmp_path: Path) -> None:
    first = shell()
    enter(first, "shop.buy what=anchor")
    first.sees('"anchor for cash"')
    first.press("C-d")
    first.sees("ended with 0")
    second = shell()
    second.press("Up")
    second.sees("> shop.buy what=anchor")
    file = tmp_path / "state/tidegate/history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_secret_is_asked_for_without_echo_and_never_kept(shell: Any, tmp_path: Path) -> None:
    one = shell()
    enter(one, "shop.login name=ann")
    one.sees("password:")
    enter(one, "hunter2")
    assert "hunter2" not in one.sees('"ann with 7 letters"')
    enter(one, "shop.login name=bob password=swordfish")
    one.sees('"bob with 9 letters"')
    enter(one, "shop.login carl swordfish1")
    one.sees('"carl with 10 letters"')
    enter(one, 'shop.login --params \'{"name": "dora", "password": "swordfish22"}\'')
    one.sees('"dora with 11 letters"')
    enter(one, 'shop.login name=erik password="swordfish')
    one.sees("no closing quotation")
    enter(one, "shop.lgoin name=fred password=swordfish")
    one.sees("did you mean 'shop.login'?")
    kept = history(tmp_path)
    assert "+shop.login name=bob\n" in kept
    assert [secret for secret in ("hunter2", "swordfish") if secret in kept] == []


def test_a_history_that_can_not_be_kept_is_told_and_no_reason_to_stop(shell: Any, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    one = shell()
    one.sees("no history is kept")
    enter(one, "shop.buy what=x")
    one.sees('"x for cash"')


def test_lines_from_a_pipe_are_carried_out_without_a_prompt(cli: Any, server: Any) -> None:
    where = ("--connect", server.addresses[0])
    ran = cli("shell", *where, stdin="shop.buy what=a # a comment\n\nshop.buy what=b\n")
    assert (ran.code, ran.out, ran.err) == (0, '"a for cash"\n"b for cash"\n', "")
    failed = cli("shell", *where, stdin="shop.buy\nshop.buy what=b\nexit\nshop.buy what=c\n")
    assert (failed.code, failed.out) == (1, '"b for cash"\n')
    assert failed.err.startswith("1107 RequiredFieldMissing")


def test_no_server_no_shell(cli: Any, tmp_path: Path) -> None:
    assert cli("shell", "--data", str(tmp_path)).code == 3
