"""The audit trail asked for over the wire: searched page by page, verified while it is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidegate_security.audit import Trail, files_of
from tidegate_security.search import Wanted, search

Guarded = Callable[..., Any]


def trail_in(folder: Path, entries: int, max_bytes: int = 1 << 20) -> None:
    trail = Trail(folder, checkpoints=None, max_bytes=max_bytes, queue=1000)
    trail.open()
    for n in range(1, entries + 1):
        trail.write([{"event": "even" if n % 2 == 0 else "odd", "n": n}], False)
    trail.sign()
    trail.close()


def test_pages_go_back_to_the_beginning_over_rotated_files(tmp_path: Path) -> None:
    trail_in(tmp_path, 95, max_bytes=2500)
    assert len(files_of(tmp_path)) > 5
    numbers: list[int] = []
    before = None
    while True:
        page = search(tmp_path, Wanted(), before, 10)
        numbers += [entry["n"] for entry in page.entries]
        if page.next is None:
            break
        before = page.next
    assert numbers == list(range(95, 0, -1))


def test_a_search_reads_only_so_much_and_goes_on_from_there(tmp_path: Path) -> None:
    trail_in(tmp_path, 50)
    page = search(tmp_path, Wanted(event="no such"), None, 10, most=2000)
    assert page.entries == []
    found, before = [], page.next
    while before is not None:
        page = search(tmp_path, Wanted(event="even", text='"n": 4'), before, 10, most=2000)
        found += [entry["n"] for entry in page.entries]
        before = page.next
    assert found == [4]


def test_a_line_that_is_being_written_is_no_entry_yet(tmp_path: Path) -> None:
    trail_in(tmp_path, 3)
    path = tmp_path / "audit.jsonl"
    path.write_bytes(path.read_bytes() + b'{"seq":4,"event":"ha')
    assert [entry["n"] for entry in search(tmp_path, Wanted()).entries] == [3, 2, 1]


def test_a_line_without_sense_is_shown_as_that(tmp_path: Path) -> None:
    trail_in(tmp_path, 3)
    path = tmp_path / "audit.jsonl"
    first, _, third = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, b"\xff nonsense", third, b""]))
    assert [entry["event"] for entry in search(tmp_path, Wanted()).entries] == ["odd", "unreadable", "odd"]


def test_administrators_search_the_trail(guarded: Guarded, eventually: Callable[..., Any]) -> None:
    server = guarded()
    with server.admin() as admin:
        admin.call("security.allow", network="192.0.2.0/24", reason="the office")
        admin.call("security.block", network="198.51.100.7", for_s=60, reason="a test")
        eventually(lambda: admin.call("security.audit", event="address.blocked")["entries"])
        found = admin.call("security.audit", event="address.", address="198.51.100.7")["entries"]
        assert [(entry["event"], entry["reason"]) for entry in found] == [("address.blocked", "a test")]
        asked = admin.call("security.audit", event="operator.asks", user="operator", severity="high", limit=1)
        assert asked["entries"][0]["method"] == "security.block"
        assert asked["next"] is not None
        assert admin.call("security.audit", since="2100-01-01")["entries"] == []


def test_the_trail_of_a_running_server_is_verified(guarded: Guarded) -> None:
    server = guarded()
    with server.admin() as admin:
        for n in range(20):
            admin.call("security.allow", network=f"192.0.2.{n}", reason="a test")
        found = admin.call("security.audit_verify")
        assert (found["ok"], found["problems"]) == (True, [])
        path = server.run(lambda: server.server.registry.plugins["security"].trail.path)
        path.write_bytes(path.read_bytes().replace(b"192.0.2.7", b"192.0.2.8", 1))
        found = admin.call("security.audit_verify")
        assert not found["ok"]
        assert found["problems"][0]["kind"] == "changed"
        assert "audit.jsonl:" in found["problems"][0]["where"]


def test_every_command_has_its_place_in_the_administrators_api(guarded: Guarded) -> None:
    server = guarded()
    commands = server.run(lambda: dict(server.server.commands))
    notes = {name: command.notes for name, command in commands.items() if name.startswith("security.")}
    places = [note["http"] for note in notes.values()]
    assert len(set(places)) == len(places) >= 18
    assert all(note["http"].split()[0] != "GET" or note["scope"] == "read" for note in notes.values())
