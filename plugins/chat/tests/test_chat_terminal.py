"""`tidegate chat`, as somebody uses it: in a real terminal, driven by tmux."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tidegate.testing import wait_until

PASSWORD = "correct horse battery"


class Terminal:
    """A tmux session of its own with `tidegate chat` in it."""

    def __init__(self, tmux: str, folder: Path, server, name: str, *options: str) -> None:
        self._tmux = [tmux, "-S", str(folder / f"{name}.sock"), "-f", "/dev/null"]
        path = f"PATH={os.environ['PATH']} PYTHONPATH={os.environ.get('PYTHONPATH', '')}"
        settings = (
            f"TIDEGATE_CHAT_PASSWORD='{PASSWORD}' XDG_STATE_HOME={folder} LC_ALL=C.UTF-8 TERM=xterm-256color {path}"
        )
        command = f"{sys.executable} -m tidegate chat --connect {server.addresses[0]} --name {name} {' '.join(options)}"
        self._run("new-session", "-d", "-x", "110", "-y", "24", f"env {settings} {command}; echo EXIT=$?; sleep 20")

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

    def start(server, name: str, *options: str) -> Terminal:
        opened.append(Terminal(tmux, tmp_path, server, name, *options))
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
    again = terminals(server, "nobody")  # the token is known: nobody is asked
    again.shows("ada connected", "over here")
