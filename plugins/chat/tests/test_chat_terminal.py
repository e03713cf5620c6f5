"""`tidegate chat`, as somebody uses it: in a real terminal, driven by tmux."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from tidegate.testing import wait_until
from tidegate_chat.terminal.rows import printable, wrapped
from tidegate_chat.terminal.session import file_of

PASSWORD = "correct horse battery"
_numbers = count(1)


class Terminal:
    """A tmux session of its own with `tidegate chat` in it."""

    def __init__(self, tmux: str, folder: Path, server, name: str, *options: str, columns: int = 110) -> None:
        self._tmux = [tmux, "-S", str(folder / f"{next(_numbers)}.sock"), "-f", "/dev/null"]
        path = f"PATH={os.environ['PATH']} PYTHONPATH={os.environ.get('PYTHONPATH', '')}"
        settings = (
            f"TIDEGATE_CHAT_PASSWORD='{PASSWORD}' XDG_STATE_HOME={folder} LC_ALL=C.UTF-8 TERM=xterm-256color {path}"
        )
        command = f"{sys.executable} -m tidegate chat --connect {server.addresses[0]} --name {name} {' '.join(options)}"
        self._run(
            "new-session", "-d", "-x", str(columns), "-y", "24", f"env {settings} {command}; echo EXIT=$?; sleep 20"
        )

    def _run(self, *args: str) -> str:
        done = subprocess.run([*self._tmux, *args], capture_output=True, text=True, timeout=20, check=True)
        return done.stdout

    def screen(self) -> str:
        return self._run("capture-pane", "-p")

    def shows(self, *texts: str) -> str:
        """The screen, once all of these stand on it."""

        def look() -> str:
            screen = self.screen()
            return screen if all(text in screen for text in texts) else ""

        try:
            return wait_until(look, 20.0)
        except AssertionError:
            raise AssertionError(f"{texts} is not on the screen:\n{self.screen()}") from None

    def type(self, text: str) -> None:
        self._run("send-keys", "-l", text)
        self._run("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True)


@pytest.fixture
def terminals(need, tmp_path) -> Iterator:
    tmux, opened = need("tmux"), []

    def start(server, name: str, *options: str, columns: int = 110) -> Terminal:
        opened.append(Terminal(tmux, tmp_path, server, name, *options, columns=columns))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_two_people_meet_talk_search_and_come_back(chat, terminals, newcomer):
    server = chat()
    ada = terminals(server, "ada", "--register")
    ada.shows("ada connected", "no room yet")
    ada.type("/create Lobby")
    ada.shows("Lobby", "*ada")
    bob = newcomer(server, "bob")
    ada.type(f"/invite {bob.nick}")
    ada.shows("is invited")
    (waiting,) = bob.call("invitation.list")["invitations"]
    bob.call("invitation.accept", invitation=waiting["id"])
    ada.shows(bob.nick)
    room = waiting["room"]
    bob.call("message.send", room=room, text="Hello from beyond")
    ada.shows(f"{bob.nick} Hello from beyond")
    ada.type("Good evening, bob")
    ada.shows("ada Good evening, bob")
    assert bob.heard("message", "message", room=room)[1]["data"]["text"] == "Good evening, bob"
    ada.type("/edit Good night, bob")
    ada.shows("ada Good night, bob (edited)")
    ada.type("/search beyond")
    ada.shows("Lobby <", "1 found")
    ada.type("/join Nowhere")
    ada.shows("There is no such room (1501)")
    bob.call("typing", room=room)
    ada.shows("writing…")
    # the server goes away and comes back: the token takes her in again, and what was said meanwhile is there
    port = server.port
    bob.close()
    server.stop()
    ada.shows("connecting anew")
    server._args = [arg.replace("127.0.0.1:0", f"127.0.0.1:{port}") for arg in server._args]
    server.start()
    ada.shows("ada connected")
    with server.client() as again:
        again.call("account.resume", token=bob.token)
        again.call("message.send", room=room, text="while you were away")
        ada.shows("while you were away")
    ada.type("/leave")
    ada.shows("The last owner can't go")
    ada.press("C-d")
    ada.shows("EXIT=0")


def test_each_name_has_a_token_of_its_own():
    names = [None, "ada-b", "ada.b", "ada_b", "ada'b"]
    assert len({file_of("127.0.0.1:7420", name) for name in names}) == len(names)
    assert file_of("[::1]:7420", "Ada") == file_of("[::1]:7420", "ada")


def test_an_invitation_is_accepted_and_the_session_is_kept(chat, terminals, newcomer):
    server = chat()
    bob = newcomer(server, "bob")
    room = bob.call("room.create", name="Attic", private=True)["id"]
    ada = terminals(server, "ada", "--register")
    ada.shows("ada connected")
    bob.call("invitation.create", room=room, user="ada")
    ada.shows("invites you into Attic")
    ada.type("/accept Attic")
    ada.shows(f"*{bob.nick}")
    ada.type(f"/msg {bob.nick} a word between us")
    ada.shows(f"@{bob.nick}", "a word between us")
    assert bob.call("direct.history", user="ada")["messages"][0]["text"] == "a word between us"
    bob.call("message.send", room=room, text="over here")
    ada.shows("Attic 1")
    ada.press("Tab")
    ada.shows("over here")
    ada.type("/quit")
    ada.shows("EXIT=0")
    ada.close()
    again = terminals(server, "ada")  # the token is known: nobody is asked
    again.shows("ada connected", "over here")


def test_two_people_share_a_machine_each_by_their_own_name(chat, terminals):
    server = chat()
    ada, bob = terminals(server, "ada", "--register"), terminals(server, "bob", "--register")
    ada.shows("ada connected")
    bob.shows("bob connected")


def test_what_was_said_long_ago_is_fetched_when_one_scrolls_to_it(chat, terminals, newcomer):
    server = chat()
    bob = newcomer(server, "bob")
    room = bob.call("room.create", name="Archive")["id"]
    for number in range(130):
        bob.call("message.send", room=room, text=f"entry {number}.")
    ada = terminals(server, "ada", "--register")
    ada.shows("ada connected")
    ada.type("/join Archive")
    ada.shows("entry 129.")

    def top() -> bool:
        ada.press("PageUp")
        return "entry 0." in ada.screen()

    wait_until(top, 60.0)


def test_a_narrow_terminal_has_room_for_what_is_said(chat, terminals, newcomer):
    server = chat()
    bob = newcomer(server, "bob")
    lobby = bob.call("room.create", name="Lobby")["id"]
    ada = terminals(server, "ada", "--register", columns=40)
    ada.shows("ada connected")
    ada.type("/join Lobby")
    bob.call("message.send", room=lobby, text="a sentence that fits")
    ada.shows(f"{bob.nick} a sentence that fits")
    bob.call("direct.send", user="ada", text="and another room")
    ada.shows("1 unread")
    ada.press("Tab")
    ada.shows(f"@{bob.nick}", "and another room")


def test_letters_of_all_scripts_stay_and_what_steers_a_terminal_does_not():
    family, persian = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert printable(f"{family} {persian} \u65e5\u672c") == f"{family} {persian} \u65e5\u672c"
    assert printable("\x1b[2J\u202eabc\x07") == "\ufffd[2J\ufffdabc\ufffd"


def test_a_long_line_is_cut_between_words_and_by_the_width_of_its_letters():
    def rows(text: str, width: int) -> list[str]:
        return ["".join(part for _, part in row) for row in wrapped([("", text)], width)]

    assert rows("one two three four", 13) == ["one two three", "      four"]
    assert rows("\u65e5\u672c\u8a9e\u30c6\u30ad\u30b9\u30c8", 10)[0] == "\u65e5\u672c\u8a9e\u30c6\u30ad"


# --- the README's tour ----------------------------------------------------------------------------

README = (Path(__file__).parents[1] / "README.md").read_text()


def shown(language: str) -> list[list[str]]:
    """The lines of the example's blocks."""
    return [
        block.splitlines() for block in re.findall(rf"```{language}\n(.*?)```", README.split("## Example")[1], re.S)
    ]


def test_the_tour_of_the_readme_goes_as_it_says(chat, terminals):
    server = chat()
    of_ada, of_grace = shown("text")
    ada, grace = terminals(server, "ada", "--register"), terminals(server, "grace", "--register")
    ada.shows("ada connected")
    grace.shows("grace connected")
    for line in of_ada:
        ada.type(line)
    grace.shows("ada invites you into Lobby: /accept Lobby")
    for line in of_grace:
        grace.type(line)
    grace.shows("Lobby <grace> Hello, everybody", "1 found")
    ada.shows("grace Hello, everybody")


def test_the_same_by_hand_goes_as_the_readme_says(chat):
    server = chat()
    lines = [line.partition("> ")[2] for line in shown("console")[1] if "> " in line]
    command = [sys.executable, "-m", "tidegate", "shell", "--connect", server.addresses[0]]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.stdout.count('"text": "Hello, everybody"')) == ("", 1)


def test_what_is_typed_after_a_move_is_said_where_the_move_leads(chat, terminals, newcomer):
    server = chat()
    bob = newcomer(server, "bob")
    lobby, attic = (bob.call("room.create", name=name)["id"] for name in ("Lobby", "Attic"))
    ada = terminals(server, "ada", "--register")
    ada.shows("ada connected")
    for line in ("/join Lobby", "to the lobby", "/join Attic", "to the attic"):
        ada.type(line)
    ada.shows("ada to the attic")
    said = [[one["text"] for one in bob.call("message.history", room=room)["messages"]] for room in (lobby, attic)]
    assert said == [["to the lobby"], ["to the attic"]]
