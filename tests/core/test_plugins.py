"""How plugins are found, checked, ordered and left out."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import ClassVar

import pytest
from tidegate import Plugin, command, hookimpl
from tidegate.faults import Fault, ResourceNotFound
from tidegate.registry import StartRefused

RINGS = ["observe", "guard", "identify", "admit", "check", "answer", "scope"]
PASSED: list[str] = []


@pytest.fixture(autouse=True)
def _fresh():
    PASSED.clear()


def standing(ring: str, name: str, **attributes: object) -> type[Plugin]:
    """A plugin of one ring that notes each call that passes it."""

    def tidegate_decorate(self, command, proceed):
        if command.name != "system.echo":
            return None

        def noted(call):
            PASSED.append(self.name)
            return proceed(call)

        return noted

    return type(name, (Plugin,), {"ring": ring, "tidegate_decorate": hookimpl(tidegate_decorate), **attributes})


def echo(server) -> None:
    with server.raw() as raw:
        assert raw.ask("system.echo", ["x"])["result"] == "x"


def refused(inside, **options: object) -> str:
    with pytest.raises(StartRefused) as caught:
        inside(**options)
    return str(caught.value)


def test_a_call_passes_the_rings_from_the_outside_in_whatever_the_order_of_installation(inside):
    plugins = {f"p{n}": standing(ring, f"P{n}") for n, ring in reversed(list(enumerate(RINGS)))}
    echo(inside(plugins=plugins))
    assert PASSED == ["p0", "p1", "p2", "p3", "p4", "p5", "p6"]


def test_within_a_ring_plugins_stand_by_name(inside):
    echo(inside(plugins={name: standing("check", name) for name in ("zoo", "ape", "bee")}))
    assert PASSED == ["ape", "bee", "zoo"]


def test_an_operator_moves_a_plugin_to_another_ring(inside):
    plugins = {"late": standing("scope", "Late"), "early": standing("guard", "Early")}
    echo(inside('[plugins.late]\nring = "observe"\n', plugins=plugins))
    assert PASSED == ["late", "early"]


def test_a_plugin_with_work_in_two_rings_brings_parts(inside):
    part = standing("guard", "Outer")
    whole = standing("scope", "Whole", parts=(part,))
    server = inside(plugins={"whole": whole, "mid": standing("check", "Mid")})
    echo(server)
    assert PASSED == ["whole.outer", "mid", "whole"]
    PASSED.clear()
    moved = inside(
        '[plugins."whole.outer"]\nring = "scope"\n', plugins={"whole": whole, "mid": standing("check", "Mid")}
    )
    echo(moved)
    assert PASSED[0] == "mid"


def test_a_decorator_may_answer_repeat_or_refuse(inside):
    def tidegate_decorate(self, command, proceed):
        if command.name == "system.ping":
            return lambda call: "answered"
        if command.name == "system.echo":
            return lambda call: (proceed(call), proceed(call))[1]
        if command.name == "system.info":

            def refuse(call):
                raise ResourceNotFound("refused")

            return refuse
        return None

    plugin = type("Any", (Plugin,), {"ring": "answer", "tidegate_decorate": hookimpl(tidegate_decorate)})
    server = inside(plugins={"any": plugin, "inner": standing("scope", "Inner")})
    with server.raw() as raw:
        assert raw.ask("system.ping")["result"] == "answered"
        assert raw.ask("system.echo", ["x"])["result"] == "x"
        assert raw.ask("system.info")["error"]["message"] == "refused"
    assert PASSED == ["inner", "inner"]


# --- what refuses the start -----------------------------------------------------------------------


class Future(Plugin):
    api = (2, 0)


class Newer(Plugin):
    api = (1, 99)


class Nowhere(Plugin):
    ring = "gaurd"


class Mistaken(Plugin):
    @hookimpl
    def tidegate_decorat(self, command, proceed):
        return None


class Unmarked(Plugin):
    def tidegate_serve(self, server):
        yield


class First(Plugin):
    @hookimpl(tryfirst=True)
    def tidegate_gauges(self):
        return {}


class Last(Plugin):
    @hookimpl(trylast=True)
    def tidegate_gauges(self):
        return {}


class Wanting(Plugin):
    needs = ("database",)


class Extra(Plugin):
    @hookimpl
    def tidegate_fault(self, call, nonsense):
        return None


class FailsToStart(Plugin):
    @hookimpl
    def tidegate_serve(self, server):
        raise ConnectionRefusedError("no database there")
        yield


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (Future, ["'x'", "hook API 2.0", "this server 1.0"]),
        (Newer, ["'x'", "hook API 1.99", "update tidegate"]),
        (Nowhere, ["'x'", "'gaurd'", "did you mean 'guard'"]),
        (Mistaken, ["'x'", "tidegate_decorat", "does not exist", "did you mean 'tidegate_decorate'"]),
        (Unmarked, ["'x'", "tidegate_serve without @hookimpl"]),
        (First, ["'x'", "tryfirst", "order is declared with `ring`"]),
        (Last, ["'x'", "trylast", "order is declared with `ring`"]),
        (Wanting, ["'x'", "needs plugin 'database'"]),
        (Extra, ["'x'", "nonsense"]),
        (FailsToStart, ["'x'", "failed at start", "tidegate_serve", "ConnectionRefusedError: no database there"]),
        (dict, ["'x'", "expected a subclass of tidegate.Plugin"]),
    ],
)
def test_a_plugin_that_cant_be_used_refuses_the_start_with_its_reason(inside, plugin, words):
    text = refused(inside, plugins={"x": plugin})
    for word in words:
        assert word in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("plugin", [Future, Mistaken, Wanting, FailsToStart])
def test_a_plugin_that_is_not_required_is_left_out_and_said_so(inside, caplog, plugin):
    server = inside("[plugins.x]\nrequired = false\n", plugins={"x": plugin, "y": standing("check", "Y")})
    echo(server)
    assert PASSED == ["y"]
    with server.raw() as raw:
        assert {"name": "x", "state": "broken"}.items() <= {
            p["name"]: p for p in raw.ask("system.info")["result"]["plugins"]
        }["x"].items()
    assert any("serving without plugin 'x'" in r.message for r in caplog.records)


def test_everything_wrong_is_told_at_once(inside):
    text = refused(inside, plugins={"a": Future, "b": Nowhere, "c": Mistaken})
    assert len(text.splitlines()) == 3


def test_a_plugin_that_stands_on_a_missing_one_is_not_there_either(inside):
    text = refused(
        inside, plugins={"a": type("A", (Plugin,), {"needs": ("b",)}), "b": type("B", (Plugin,), {"needs": ("c",)})}
    )
    assert "plugin 'b'" in text
    assert "plugin 'a'" in text


# --- commands and notes ---------------------------------------------------------------------------


def made(name: str, function=None, **notes: object):
    def plain() -> None: ...

    return command(name, **notes)(function or plain)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (made("rpc.mine"), ["rpc.", "reserved"]),
        (made("Bad.Name"), ["'Bad.Name'"]),
        (made("x" * 65), ["at most 64"]),
        (made("a.b", requries="user"), ["unknown note 'requries'", "did you mean 'requires'"]),
        (made("a.b", timeout=0), ["timeout", "got 0"]),
        (made("a.b", scope="write"), ["scope", "'write'"]),
        (made("a.b", transaction=True), ["'transaction'", "install tidegate-transactions"]),
        (made("a.b", lambda db: None), ["'db'", "install tidegate-transactions"]),
        (made("a.b", lambda *args: None), ["*args", "no name a client could use"]),
        (made("a.b", lambda x: None, params={"y": {}}), ["params.y"]),
        (made("a.b", lambda call: None, thread=True), ["thread=True", "'call'"]),
        (made("system.ping"), ["'system.ping'", "'core'", "'commands'"]),
    ],
)
def test_a_command_that_cant_be_served_refuses_the_start(inside, wrong, words):
    text = refused(inside, commands=[wrong])
    for word in words:
        assert word in text


def test_a_note_that_nobody_reads_is_reported_at_start(inside, caplog):
    inside(commands=[made("a.b", rate="1/minute", zzz=1, http="GET /a")])
    text = caplog.text
    assert "http" not in text, "without a site nobody misses a path"
    assert "the note 'rate' has no effect without tidegate-validation; it is on a.b" in text
    assert "the note 'zzz' is read by nobody; it is on a.b" in text


def test_a_plugin_injects_what_it_provides(inside):
    class Provides(Plugin):
        ring = "scope"
        provides = frozenset({"stock"})

        @hookimpl
        def tidegate_decorate(self, command, proceed):
            if "stock" not in command.injected:
                return None

            def scope(call):
                call.resources = {"stock": [1, 2]}
                return proceed(call)

            return scope

        def provided(self, name):
            return lambda: [1, 2]

    @command("shop.count")
    def count(stock: list, times: int = 1) -> int:
        return len(stock) * times

    server = inside(plugins={"provides": Provides}, commands=[count])
    with server.raw() as raw:
        assert raw.ask("shop.count", {"times": 3})["result"] == 6
        assert raw.ask("shop.count", [3])["result"] == 6
        assert raw.ask("shop.count", {"stock": []})["error"]["data"]["code"] == 1112
    assert server.server.provided("stock")() == [1, 2]
    with pytest.raises(LookupError):
        server.server.provided("nothing")


# --- who may call what ----------------------------------------------------------------------------


class Knows(Plugin):
    """Knows users by a token."""

    ring = "identify"
    claims = frozenset({"auth"})

    @hookimpl
    def tidegate_decorate(self, command, proceed):
        from tidegate import User

        def identify(call):
            if call.auth is not None:
                name, _, scopes = call.auth.partition(":")
                call.user = User(
                    name, name, frozenset({"user", name}), frozenset(scopes.split(",")) if scopes else None
                )
            return proceed(call)

        return identify


@command("room.create", requires="user")
def create(call) -> str:
    return call.user.id


@command("room.audit", requires="admin", scope="security")
def audit() -> str:
    return "audited"


def code(reply: dict) -> int:
    return reply["error"]["data"]["code"]


def test_without_anybody_who_identifies_a_command_that_needs_a_user_is_refused(inside):
    server = inside(commands=[create, audit])
    with server.raw() as raw, server.raw_admin() as door:
        assert code(raw.ask("room.create")) == 1010
        assert door.ask("room.audit")["result"] == "audited"
        assert code(door.ask("room.create")) == 1002  # the operator is nobody's account


def test_requires_and_scope_are_enforced(inside):
    server = inside(plugins={"knows": Knows}, commands=[create, audit])
    with server.raw() as raw:
        assert code(raw.ask("room.create")) == 1007
        assert raw.ask("room.create", auth="alice")["result"] == "alice"
        assert code(raw.ask("room.audit", auth="alice")) == 1002
        assert raw.ask("room.audit", auth="admin")["result"] == "audited"
        assert code(raw.ask("room.audit", auth="admin:read,operate")) == 1002
        assert raw.ask("room.audit", auth="admin:security")["result"] == "audited"


def test_a_listener_may_keep_administrators_commands_off_its_port(inside):
    server = inside("[[listen]]\naddress='127.0.0.1:0'\nadmin=false\n", plugins={"knows": Knows}, commands=[audit])
    with server.raw() as raw:
        assert code(raw.ask("room.audit", auth="admin")) == 1605


def test_what_an_administrator_does_is_told_with_secrets_masked(inside):
    @command("account.reset", requires="admin")
    def reset(user: str, password: str, reason: str = "") -> bool:
        return True

    card = {"type": "dict", "schema": {"number": {"type": "integer", "meta": {"profile": "secret"}}}}

    @command("account.charge", requires="admin", params={"cards": {"type": "list", "schema": card}})
    def charge(cards: list) -> bool:
        return True

    server = inside(plugins={"knows": Knows}, commands=[reset, audit, create, charge])
    acted = server.events("operator.acted")
    with server.raw() as raw:
        raw.ask("account.reset", {"user": "u", "password": "hunter2", "reason": "asked"}, auth="admin")
        raw.ask("account.reset", {"user": "u"}, auth="admin")
        raw.ask("system.config", auth="admin")  # only reads
        raw.ask("account.charge", {"cards": [{"number": 4929, "owner": "u"}]}, auth="admin")
    assert [(one.method, one.actor, one.reason, one.code) for one in acted] == [
        ("account.reset", "admin", "asked", None),
        ("account.reset", "admin", "", 1107),
        ("account.charge", "admin", "", None),
    ]
    assert acted[0].params == {"user": "u", "password": "***", "reason": "asked"}
    assert acted[2].params == {"cards": [{"number": "***", "owner": "u"}]}


def test_in_maintenance_only_administrators_and_what_is_always_there_work(inside):
    server = inside(plugins={"knows": Knows}, commands=[create, audit])
    told = server.events("maintenance.changed")
    with server.raw() as raw, server.raw_admin() as door:
        assert door.ask("system.maintenance", {"on": True, "message": "Back at noon"})["result"] is True
        reply = raw.ask("room.create", auth="alice")
        assert (code(reply), reply["error"]["message"]) == (1309, "Back at noon")
        assert code(raw.ask("system.echo", ["x"])) == 1309
        assert raw.ask("system.ping")["result"] == "pong"
        assert raw.ask("room.audit", auth="admin")["result"] == "audited"
        door.ask("system.maintenance", {"on": False})
        assert raw.ask("room.create", auth="alice")["result"] == "alice"
    assert [one.on for one in told] == [True, False]


# --- a third party's faults and topics ------------------------------------------------------------


class OutOfStock(Fault):
    """The shop has none left."""

    code, severity, recovery = 2100, "low", "retry_later"
    message = "Out of stock"


def test_a_third_partys_faults_and_topics_are_served(inside):
    class Shop(Plugin):
        offers: ClassVar = {"faults": ("ShopFamily", (OutOfStock,))}
        topics: ClassVar = {"shop.sold": ("item",)}

        @command("shop.buy")
        def buy(self, call, item: str) -> None:
            if item == "none":
                raise OutOfStock(item=item)
            call.publish("shop.sold", item=item)

    server = inside(plugins={"shop": Shop})
    sold = server.events("shop.sold")
    with server.raw() as raw:
        error = raw.ask("shop.buy", ["none"])["error"]
        assert (error["code"], error["data"]["type"], error["data"]["item"]) == (2100, "OutOfStock", "none")
        assert raw.ask("shop.buy", ["hat"])["result"] is None
    assert [one.item for one in sold] == ["hat"]


def test_a_code_that_is_taken_is_refused_with_both_owners(inside):
    class Taken(Fault):
        code = 2100

    one = type("One", (Plugin,), {"offers": {"faults": ("OneFamily", (OutOfStock,))}})
    other = type("Other", (Plugin,), {"offers": {"faults": ("OtherFamily", (Taken,))}})
    text = refused(inside, plugins={"one": one, "other": other})
    for word in ("2100", "'one'", "'other'"):
        assert word in text


def test_a_module_that_has_no_command_or_cant_be_imported_refuses_the_start(served):
    for module, words in (("no_such_module_here", "can't import"), ("json", "no function marked with @command")):
        with pytest.raises(AssertionError, match=words):
            served(commands=[module])
    assert isinstance(sys, ModuleType)
