"""The nouns of a server: users, connections, commands, calls and events."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from tidegate.faults import Fault, InternalError, ResourceExhausted

if TYPE_CHECKING:
    from tidegate.plugin import Plugin
    from tidegate.server import Server

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_encode = msgspec.json.Encoder().encode


class User(msgspec.Struct, frozen=True):
    """Who somebody is. Replaced as a whole, never changed.

    `scopes` None means all of "read", "operate" and "security".
    """

    id: str
    name: str
    roles: frozenset[str]
    scopes: frozenset[str] | None = None


#: Whoever may open the operator's socket: an administrator, and nobody's account.
OPERATOR = User("operator", "operator", frozenset({"admin", "operator"}))


class Key(Generic[T]):
    """A typed name for a value in a `Stash`; a constant of the module that owns it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Key({self.name!r})"


class Stash:
    """What plugins hang on a connection or a call: `stash[KEY]`, with `KEY = Key[float]("security.score")`."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[Key[Any], Any] = {}

    def __getitem__(self, key: Key[T]) -> T:
        return cast(T, self._values[key])

    def __setitem__(self, key: Key[T], value: T) -> None:
        self._values[key] = value

    def __delitem__(self, key: Key[T]) -> None:
        del self._values[key]

    def __contains__(self, key: Key[T]) -> bool:
        return key in self._values

    def get(self, key: Key[T], default: T) -> T:
        return cast(T, self._values.get(key, default))


class Event:
    """A published fact. Its fields are attributes with JSON values, save `connection`."""

    def __init__(self, topic: str, at: float, id: str, fields: Mapping[str, Any]) -> None:
        self.__dict__.update(fields)
        self.topic = topic
        self.at = at
        self.id = id

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __repr__(self) -> str:
        return f"<Event {self.topic} {self.id}>"


class Command:
    """A plain function that clients may call by its name."""

    __slots__ = ("arguments", "function", "injected", "name", "notes", "plugin", "required")

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        plugin: Plugin,
        notes: Mapping[str, Any],
        arguments: tuple[str, ...] = (),
        injected: tuple[str, ...] = (),
        required: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.function = function
        self.plugin = plugin
        self.notes = notes
        self.arguments = arguments  # the client's parameters, in positional order
        self.injected = injected  # what the server hands in
        self.required = required  # those of `arguments` without a default

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    def __repr__(self) -> str:
        return f"<Command {self.name} of {self.plugin.name}>"


def command(name: str, /, **notes: Any) -> Callable[[F], F]:
    """Mark a function or a plugin's method as the command `name`, e.g. `@command("room.create", requires="user")`.

    The function stays a plain function. `notes` are data that plugins act on
    (contract.md, Notes); `call` and what plugins provide is injected where the
    function asks for it, all other parameters are the client's.
    """

    def mark(function: F) -> F:
        function.__tidegate_command__ = (name, notes)  # type: ignore[attr-defined]
        return function

    return mark


class Connection:
    """One client. This base has no socket: `Server.door` uses it as it is."""

    __slots__ = (
        "__weakref__",
        "_stash",
        "address",
        "admin",
        "certificate",
        "exempt",
        "id",
        "kind",
        "max_reply_bytes",
        "opened",
        "prefix",
        "server",
        "user",
    )

    def __init__(self, server: Server, kind: str, *, address: str | None = None) -> None:
        self.id = server.new_connection_id()
        self.kind = kind
        self.server = server
        self.address: str | None = None
        self.prefix: bytes | None = None
        self.exempt = False
        self.admin = True  # administrators' commands may be called here
        self.user: User | None = None
        self.certificate: dict[str, Any] | None = None
        self.opened = server.clock.now()
        self.max_reply_bytes = 1 << 20
        self._stash: Stash | None = None
        if address is not None:
            self.locate(address)

    def locate(self, address: str) -> None:
        """Say where the client is: sets `address`, `prefix` and `exempt`."""
        self.address, self.prefix, self.exempt = self.server.place_of(address)

    @property
    def stash(self) -> Stash:
        if self._stash is None:
            self._stash = Stash()
        return self._stash

    def become(self, user: User | None) -> None:
        """Log in or out. From a command only inside `call.on_commit`. Never switches."""
        if user is not self.user:
            self.server.turnover += 1
        sessions = self.server.sessions
        if self.user is not None and (held := sessions.get(self.user.id)) is not None:
            held.discard(self)
            if not held:
                del sessions[self.user.id]
        self.user = user
        if user is not None:
            sessions.setdefault(user.id, set()).add(self)

    def push(self, frame: bytes, count: int = 1) -> bool:
        """Send a whole frame (`server.frame`), or `count` of them joined, to this client; False means dropped.

        Never switches.
        """
        return False

    def end(self, fault: Fault | None = None, *, cancel: bool = False) -> None:
        """Ask the connection's own greenlet to close it; `cancel` stops the running call too."""

    def calls_in_flight(self) -> list[Call]:
        """The calls that run on it now."""
        return []

    def traffic(self) -> dict[str, int]:
        """Calls and bytes so far."""
        return {"calls": 0, "bytes_in": 0, "bytes_out": 0}

    @property
    def gone(self) -> bool:
        """Whether the client reset the connection; one that half-closed still waits for its replies."""
        return False

    @property
    def peer(self) -> dict[str, Any]:
        """The fields that topics call `peer`."""
        return {
            "address": self.address,
            "prefix": prefix_text(self.prefix),
            "connection_id": self.id,
            "user_id": self.user.id if self.user is not None else None,
        }

    def __repr__(self) -> str:
        return f"<Connection {self.id} {self.kind} {self.address or ''}>"


def prefix_text(prefix: bytes | None) -> str | None:
    """`192.0.2.7/32` or `2001:db8::/64` for a connection's prefix."""
    if prefix is None:
        return None
    if len(prefix) == 4:
        return "%d.%d.%d.%d/32" % tuple(prefix)
    import ipaddress

    return str(ipaddress.IPv6Network((int.from_bytes(prefix + bytes(8), "big"), 64)))


class Call(msgspec.Struct, eq=False):
    """One request on its way through the decorators; itself the event of topic `call.finished`."""

    server: Any
    connection: Connection
    command: Command
    user: User | None
    now: float
    deadline: float
    params: dict[str, Any]
    room: int = 1 << 20  # bytes that its result may take
    auth: str | None = None
    idempotency_key: str | None = None
    trace: bool = False
    layers: dict[str, float] | None = None
    resources: dict[str, Any] | None = None
    _stash: Stash | None = None
    extra: dict[str, Any] | None = None
    result: Any = None
    error: BaseException | None = None
    fault: Fault | None = None
    culprit: str | None = None
    seconds: float = 0.0
    encoded: bytes | None = None
    effects: list[tuple[str, Any]] | None = None
    shielded: int = 0
    interrupt: BaseException | None = None  # the server's own deadline or cancel, once thrown
    _request_id: str | None = None
    _at: float | None = None

    @property
    def topic(self) -> str:
        return "call.finished"

    @property
    def request_id(self) -> str:
        """A UUIDv7, made when first asked for: the same id is in the log, the events and the reply."""
        if self._request_id is None:
            self._request_id = new_id()
        return self._request_id

    id = request_id

    @property
    def at(self) -> float:
        """When the call was read, wall clock."""
        if self._at is None:
            clock = self.server.clock
            self._at = clock.wall() - (clock.now() - self.now)
        return self._at

    @property
    def stash(self) -> Stash:
        if self._stash is None:
            self._stash = Stash()
        return self._stash

    def encode(self, result: Any) -> bytes:
        """The result as JSON, kept in `encoded`; who commits calls it before the commit.

        Raises InternalError when it can't be encoded, ResourceExhausted past `max_reply_bytes`.
        """
        try:
            encoded: bytes = _encode(result)
        except Exception as error:
            raise InternalError(log=f"the result of {self.command.name} can't be encoded: {error}") from error
        if len(encoded) > self.room:
            raise ResourceExhausted(
                f"The result would be {len(encoded)} bytes long, at most {max(self.room, 0)} are sent; ask for less"
            )
        self.result = result
        self.encoded = encoded
        return encoded

    def publish(self, topic: str, **fields: Any) -> None:
        """Tell a fact once this call is committed, in commit order, or never."""
        self.server.check_topic(topic, fields)
        if self.effects is None:
            self.effects = []
        self.effects.append((topic, fields))

    def on_commit(self, fn: Callable[[], object]) -> None:
        """Run `fn`, which never switches, once this call is committed, or never."""
        if self.effects is None:
            self.effects = []
        self.effects.append(("", fn))

    def committed(self) -> None:
        """Carry out what `publish` and `on_commit` gathered, once. Called by who commits, else by dispatch."""
        effects, self.effects = self.effects, None
        if not effects:
            return
        for topic, what in effects:
            if topic:
                self.server.publish(topic, **what)
                continue
            try:
                what()
            except Exception:
                self.server.log.exception("on_commit of %s failed", self.command.name, extra={"request_id": self.id})

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Neither deadline nor cancel is thrown inside; what was begun is finished, its outcome is the reply."""
        self.shielded += 1
        try:
            yield
        finally:
            self.shielded -= 1


class Leaving(msgspec.Struct, frozen=True):
    """An account that is being deleted; `db` is the open session of `call`."""

    user: User
    call: Call
    db: Any


def new_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7): sorts by time to the millisecond."""
    value = (time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF) << 80 | 0x7000 << 64 | 0x8000 << 48
    value |= int.from_bytes(os.urandom(10), "big") & 0x0FFF_3FFF_FFFF_FFFF_FFFF
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
