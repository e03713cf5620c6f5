"""The audit trail: what is in it, what is not, and that nothing can be done to it unseen."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tidegate_security.audit import Key, Trail, line_of, split
from tidegate_security.verify import verify


def trail_in(folder: Path, entries: int, max_bytes: int = 1 << 20) -> Key:
    """A finished trail."""
    trail = Trail(folder, checkpoints=None, max_bytes=max_bytes, queue=1000)
    trail.open()
    for start in range(0, entries, 5):
        trail.write([{"event": "test", "n": n, "text": "ü \n"} for n in range(start, min(entries, start + 5))], False)
        trail.sign()
    trail.close()
    return Key.read(folder / "audit.key")


def kinds(folder: Path, key: Key) -> list[str]:
    return [problem.kind for problem in verify(folder, key).problems]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Key]:
    folder = tmp_path_factory.mktemp("trail")
    return folder, trail_in(folder, 20, max_bytes=1500)


def test_an_untouched_trail_verifies_over_its_rotated_files(made: tuple[Path, Key]) -> None:
    folder, key = made
    result = verify(folder, key)
    assert (result.entries, result.problems) == (20, [])
    assert len(list(folder.glob("audit-*.jsonl"))) >= 2


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(1, 255), where=st.integers(0, 9))
def test_tampering_with_any_byte_is_found(
    made: tuple[Path, Key], tmp_path: Path, place: float, bit: int, where: int
) -> None:
    folder, key = made
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    files = sorted(copy.glob("*.jsonl"))
    path = files[where % len(files)]
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= bit
    path.write_bytes(data)
    assert verify(copy, key).problems


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 4000))
def test_a_cut_tail_is_found(made: tuple[Path, Key], tmp_path: Path, cut: int) -> None:
    folder, key = made
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    for path in reversed([*sorted(copy.glob("audit-*.jsonl")), copy / "audit.jsonl"]):
        data = path.read_bytes()
        path.write_bytes(data[: max(0, len(data) - cut)])
        cut -= len(data)
        if cut <= 0:
            break
    found = kinds(copy, key)
    assert "cut" in found


def whole(folder: Path) -> tuple[Path, list[bytes], Key]:
    key = trail_in(folder, 10)
    path = folder / "audit.jsonl"
    return path, path.read_bytes().split(b"\n")[:-1], key


def test_the_five_ways_are_told_apart(tmp_path: Path) -> None:
    path, lines, key = whole(tmp_path)

    def found(changed: list[bytes]) -> set[str]:
        path.write_bytes(b"".join(line + b"\n" for line in changed))
        return set(kinds(tmp_path, key))

    assert found(lines) == set()
    assert found([*lines[:3], lines[3].replace(b'"n":3', b'"n":9'), *lines[4:]]) >= {"changed"}
    assert found([*lines[:3], *lines[4:]]) == {"missing"}
    assert found([*lines[:3], lines[4], lines[3], *lines[5:]]) == {"order"}
    assert found(lines[:7]) == {"cut"}
    head, anew = "0" * 64, []
    for number, line in enumerate(lines, 1):
        parts = split(line)
        assert parts
        entry = {**json.loads(parts[0] + b"}"), "seq": number, "n": 99, "prev": head}
        new, head = line_of(entry, key)
        anew.append(new)
    assert found(anew) == {"rewritten"}


def test_a_trail_computed_anew_without_the_key_is_found(tmp_path: Path) -> None:
    path, lines, key = whole(tmp_path)
    other, head, anew = Key(os.urandom(32)), "0" * 64, []
    for number, _ in enumerate(lines, 1):
        line, head = line_of({"seq": number, "event": "nothing happened", "key": key.id, "prev": head}, other)
        anew.append(line + b"\n")
    path.write_bytes(b"".join(anew))
    assert "changed" in kinds(tmp_path, key)


def test_a_torn_last_line_is_set_aside_and_recorded(tmp_path: Path) -> None:
    path, _, key = whole(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"seq":11,"half')
    trail = Trail(tmp_path, checkpoints=None, max_bytes=1 << 20, queue=10)
    assert trail.open() is not None
    assert trail.seq == 10
    trail.write([{"event": "on"}], True)
    trail.sign()
    trail.close()
    assert kinds(tmp_path, key) == []
    assert [p.read_bytes() for p in tmp_path.glob("torn-*")] == [b'{"seq":11,"half']


def test_the_queue_is_bounded_and_keeps_room_for_what_is_severe(tmp_path: Path) -> None:
    trail = Trail(tmp_path, checkpoints=None, max_bytes=1 << 20, queue=10)
    assert sum(trail.put({"severity": "low"}) for _ in range(50)) == 10
    assert all(trail.put({"severity": "high"}) for _ in range(30))
    assert not trail.put({"severity": "high"})
    assert (len(trail.queue), trail.lost) == (40, 41)


def entries(server: Any) -> list[dict[str, Any]]:
    path = server.data / "security" / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_logins_blocks_changes_and_plugins_are_in_it_and_no_secret(
    shop: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    server = shop("max_delay_s = 0")
    with server.raw(source="127.0.0.2") as raw, server.admin() as admin:
        raw.ask("account.login", {"name": "alice", "password": "hunter2secret"})
        raw.ask("account.login", {"name": "alice", "password": "wonderland"})
        raw.ask("system.echo", {"text": "' or 1=1--"})
        raw.send(b'{"password": "hunter2secret"\n')
        raw.line()
        admin.call("security.block", network="127.0.0.9", for_s=5, reason="a test")
    events = {"login.failed", "login.succeeded", "threat.detected", "address.blocked", "operator.acted"}
    events |= {"operator.asks", "plugins.loaded", "chain.resume", "protocol.violated", "server.started"}
    eventually(lambda: events <= {e["event"] for e in entries(server)})
    text = (server.data / "security" / "audit.jsonl").read_text()
    assert "hunter2secret" not in text
    assert "wonderland" not in text


def test_a_flood_of_alike_events_is_one_entry_with_their_number(
    shop: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    server = shop("max_delay_s = 0\nblock_score = 900\nblock_high_score = 900\nrefuse_score = 800")
    with server.raw(source="127.0.0.2") as raw:
        for _ in range(30):
            raw.send(b"{broken\n")
            raw.line()
    server.advance(15)

    def told() -> list[Any]:
        return [e.get("repeated") for e in entries(server) if e["event"] == "protocol.violated"]

    eventually(lambda: told() == [None, 29])


def test_without_a_trail_nothing_is_changed_save_on_the_operators_socket(shop: Callable[..., Any]) -> None:
    server = shop("max_delay_s = 0")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with server.raw(source="127.0.0.2") as root:
        root.ask("account.login", {"name": "root", "password": "toor"})
        write = server.server.registry.plugins["security"].trail.write
        server.server.registry.plugins["security"].trail.write = fail
        refused = root.ask("security.block", {"network": "127.0.0.9", "reason": "x"})
        assert refused["error"]["code"] == 1213
        assert root.ask("security.blocks")["result"] == []
        with server.admin() as admin:
            assert admin.call("security.block", network="127.0.0.9", for_s=60, reason="x")
            assert admin.call("security.status")["audit"]["broken"]
        server.server.registry.plugins["security"].trail.write = write


def test_a_servers_trail_verifies_after_its_end(served: Callable[..., Any]) -> None:
    server = served("[server]\nexempt = []\n", plugins=["security"])
    with server.client() as client:
        client.call("system.echo", text="' or 1=1--")
    server.stop()
    folder = server.data / "security"
    result = verify(folder, Key.read(folder / "audit.key"))
    assert result.problems == []
    assert result.entries > 3
    assert result.checkpoints
    assert (folder / "audit.key").stat().st_mode & 0o077 == 0


def test_a_killed_servers_trail_verifies_when_it_goes_on(served: Callable[..., Any]) -> None:
    server = served("[server]\nexempt = []\n", plugins=["security"])
    with server.admin() as admin:
        admin.call("security.allow", network="192.0.2.1", reason="x")
    server.kill()
    server.start()
    server.stop()
    folder = server.data / "security"
    assert verify(folder, Key.read(folder / "audit.key")).problems == []
