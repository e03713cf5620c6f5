"""Rate limits: for addresses, for users, for commands and for the server. The arithmetic is `server.state`'s."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from tidegate import Call, Command, Fault, Plugin, hookimpl
from tidegate.faults import AddressRateLimitExceeded, RateLimitExceeded, UserRateLimitExceeded

if TYPE_CHECKING:
    from tidegate_validation import Validation

Proceed = Callable[[Call], Any]
Hit = Callable[..., float]
_AUTH_FAILED = (1003, 1008)
_FAULTS: dict[str, type[Fault]] = {"user": UserRateLimitExceeded, "address": AddressRateLimitExceeded}
OFF = "off"


class Asked(NamedTuple):
    """One limit that a call is held against."""

    scope: str  # "user", "address", "command" or "server"
    hit: Hit
    key: Any


class CommandRates(NamedTuple):
    """What is set for one command, by its notes and by the operator, who wins."""

    rate: str
    total: str
    cost: float
    exempt: bool


class Limits:
    """The limits of one server as they are configured now."""

    def __init__(self, plugin: Validation, config: Any) -> None:
        """Raises ValueError."""
        self._state = plugin.server.state
        self._cap = config.max_keys
        self.exempt_roles = frozenset(config.exempt_roles)
        self.exempt_commands = frozenset(config.exempt_commands)
        self.networks = [ipaddress.ip_network(text, strict=False) for text in config.exempt_networks]
        self.commands: Mapping[str, Any] = config.commands
        for name, own in self.commands.items():
            for key in ("rate", "total"):
                if (text := getattr(own, key) or OFF) != OFF:
                    self._checked(f"commands.{name}.{key}", text)
        self._texts = {scope: getattr(config, f"{scope}_rate") for scope in ("address", "user", "server")}
        self.by_address = self._limit("address", config.address_rate, config.address_burst)
        self.by_user = self._limit("user", config.user_rate, config.user_burst)
        self.of_server = self._limit("server", config.server_rate, None)

    def _checked(self, key: str, rate: str) -> None:
        try:
            self._state.limit("validation.checked", rate, cap=1)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None

    def _limit(self, name: str, rate: str, burst: float | None) -> Any:
        if rate == OFF:
            return None
        self._checked(f"{name}_rate", rate)
        return self._state.limit(f"validation.{name}", rate, burst, self._cap)

    def text(self, scope: str) -> str:
        return str(self._texts[scope])

    def of(self, command: Command) -> CommandRates:
        """Raises ValueError where it could never be called."""
        own, notes = self.commands.get(command.name), command.notes
        cost = notes.get("cost", 1) if own is None or own.cost is None else own.cost
        if isinstance(cost, bool) or not isinstance(cost, (int, float)) or cost < 0:
            raise ValueError(f"cost: expected a number, got {cost!r}")
        rates = CommandRates(
            (own and own.rate) or notes.get("rate", OFF),
            (own and own.total) or OFF,
            cost,
            command.name in self.exempt_commands or cost == 0,
        )
        if not rates.exempt:
            for limit in (self.by_address, self.by_user, self.of_server, *self.own(command, rates)):
                if limit is not None and cost > limit.most:
                    raise ValueError(f"cost: {cost:g} is more than a rate ever allows at once, which is {limit.most:g}")
        return rates

    def own(self, command: Command, rates: CommandRates) -> tuple[Any, Any]:
        """The command's own limits: for each caller, and for all together."""
        rate = total = None
        if rates.rate != OFF:
            self._checked("rate", rates.rate)
            # There may be many such commands.
            rate = self._state.limit(f"validation.rate {command.name}", rates.rate, None, max(self._cap // 10, 1000))
        if rates.total != OFF:
            total = self._state.limit(f"validation.total {command.name}", rates.total, None, 1)
        return rate, total

    def is_exempt(self, connection: Any) -> bool:
        """Whether no rule about addresses holds: no address, or one in an exempt network."""
        if connection.prefix is None or connection.exempt:
            return True
        if not self.networks:
            return False
        address = ipaddress.ip_address(connection.address)
        return any(address in network for network in self.networks)


class Addresses(Plugin):
    """Holds the calls of connections without a user against their address's rate."""

    ring = "guard"

    @hookimpl
    def tidegate_decorate(self, command: Command, proceed: Proceed) -> Proceed | None:
        whole: Any = self.whole
        limits: Limits = whole.limits
        rates = limits.of(command)
        if limits.by_address is None or rates.exempt:
            return None
        hit, cost, is_exempt, refuse = limits.by_address.hit, rates.cost, limits.is_exempt, whole.refusals.refuse
        networks = bool(limits.networks)

        def guard(call: Call) -> Any:
            connection = call.connection
            if connection.user is not None or (prefix := connection.prefix) is None or connection.exempt:
                return proceed(call)
            if call.auth is not None or networks:
                return rarer(call)
            if hit(prefix, cost, call.now):
                refuse(call, [Asked("address", hit, prefix)], hit, cost)
            return proceed(call)

        def rarer(call: Call) -> Any:
            connection = call.connection
            if is_exempt(connection):
                return proceed(call)
            asked = [Asked("address", hit, connection.prefix)]
            if call.auth is None:
                if hit(connection.prefix, cost, call.now):
                    refuse(call, asked, hit, cost)
                return proceed(call)
            # Whoever proves who they are is no stranger; only a proof that fails counts.
            if hit(connection.prefix, 0, call.now):
                refuse(call, asked, hit, 0)
            try:
                return proceed(call)
            except Fault as fault:
                if fault.code in _AUTH_FAILED:
                    hit(connection.prefix, cost, call.now)
                raise

        guard.explain = f"address: {limits.text('address')}{_costing(cost)}"  # type: ignore[attr-defined]
        return guard


class Users(Plugin):
    """Holds calls against the user's rate, the command's own and the server's."""

    ring = "admit"

    @hookimpl
    def tidegate_decorate(self, command: Command, proceed: Proceed) -> Proceed | None:
        whole: Any = self.whole
        limits: Limits = whole.limits
        rates = limits.of(command)
        rate, total = limits.own(command, rates)
        if rates.exempt or all(limit is None for limit in (limits.by_user, limits.of_server, rate, total)):
            return None
        exempt_roles, cost, is_exempt, refuse = limits.exempt_roles, rates.cost, limits.is_exempt, whole.refusals.refuse
        # Those that callers share come last, so that what is refused to one is not taken from the others.
        hits = [limit.hit for limit in (rate, limits.by_user) if limit is not None]
        for_strangers = [rate.hit] if rate is not None else []
        shared = [
            Asked(scope, limit.hit, "")
            for scope, limit in (("command", total), ("server", limits.of_server))
            if limit is not None
        ]

        def one(call: Call) -> Any:
            """The common case: the user's rate and no other."""
            user = call.user
            if user is not None and exempt_roles.isdisjoint(user.roles) and hit(user.id, cost, call.now):
                refuse(call, [Asked("user", hit, user.id)], hit, cost)
            return proceed(call)

        def several(call: Call) -> Any:
            user = call.user
            scope: str
            key: Any
            own: list[Hit]
            if user is not None:
                if not exempt_roles.isdisjoint(user.roles):
                    return proceed(call)
                scope, key, own = "user", user.id, hits
            elif for_strangers and not is_exempt(call.connection):
                scope, key, own = "address", call.connection.prefix, for_strangers
            else:
                scope, key, own = "", None, []
            now = call.now
            for hit in own:
                if hit(key, cost, now):
                    refuse(call, [*(Asked(scope, one, key) for one in own), *shared], hit, cost)
            for _, hit, of_all in shared:
                if hit(of_all, cost, now):
                    refuse(call, [*(Asked(scope, one, key) for one in own), *shared], hit, cost)
            return proceed(call)

        alone = len(hits) == 1 and not for_strangers and not shared
        hit: Any = hits[0] if hits else None
        admit = one if alone else several
        told = [
            ("user", limits.text("user")),
            ("caller", rates.rate),
            ("all callers", rates.total),
            ("server", limits.text("server")),
        ]
        said = "; ".join(f"{who}: {rate}" for who, rate in told if rate != OFF)
        admit.explain = said + _costing(cost)  # type: ignore[attr-defined]
        return admit


def _costing(cost: float) -> str:
    return f"; costs {cost:g}" if cost != 1 else ""


class Refusals:
    """Refuses calls, and tells of it: the first at once, those of the next second together."""

    MOST = 10_000  # keys in a second; past it those of one scope are told as one

    def __init__(self, plugin: Plugin) -> None:
        self._server = plugin.server
        self._held: dict[
            tuple[str, Any], dict[str, Any] | None
        ] = {}  # what is to be told of a key, once its second is over
        self._timer = plugin.server.clock.timer(self._over)

    def refuse(self, call: Call, asked: Sequence[Asked], refused: Hit, cost: float) -> NoReturn:
        """Raise the fault of the limit that has to be waited for longest; nothing of a refused call counts.

        Those of `asked` before `refused` have taken `cost`. Waiting `retry_after` does succeed.
        """
        now = call.now
        for one in asked:
            if one.hit is refused:
                break
            one.hit(one.key, -cost, now)
        wait, longest = -1.0, asked[0]
        for one in asked:
            left = one.hit(one.key, cost, now)
            if cost and not left:
                one.hit(one.key, -cost, now)
            if left > wait:
                wait, longest = left, one
        retry_after = (
            ceil(wait * 1000 - 5e-4) / 1000
        )  # never shorter; half a microsecond is within the limit's own slack
        self._tell(call, longest, retry_after)
        raise _FAULTS.get(longest.scope, RateLimitExceeded)(retry_after=retry_after)

    def _tell(self, call: Call, one: Asked, retry_after: float) -> None:
        key: tuple[str, Any] = (one.scope, (one.hit, one.key))
        if len(self._held) >= self.MOST and key not in self._held:
            key = (one.scope, None)
        user = {"user_id": call.user.id} if call.user is not None else {}
        fields = {
            **call.connection.peer,
            **user,
            "scope": one.scope,
            "method": call.command.name,
            "retry_after": retry_after,
            "count": 1,
        }
        if key in self._held:
            before = self._held[key]
            fields["count"] += before["count"] if before is not None else 0
            self._held[key] = fields
            return
        if not self._held:
            self._timer.start(1.0)
        self._held[key] = None
        self._server.publish("rate.exceeded", **fields)

    def _over(self) -> None:
        """A second is over."""
        held, self._held = self._held, {}
        for key, fields in held.items():
            if fields is not None:
                self._held[key] = None
                self._server.publish("rate.exceeded", **fields)
        if self._held:
            self._timer.start(1.0)

    def close(self) -> None:
        self._timer.stop()
        self._over()
        self._timer.stop()
        self._held.clear()
