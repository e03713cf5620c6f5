"""What administrators do about security: the commands that change something."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tidegate import Call, command
from tidegate.faults import InvalidValue, PreconditionFailed, ResourceNotFound, StorageFull

from tidegate_security.blocks import Block
from tidegate_security.looking import NETWORK, REASON, Looking
from tidegate_security.networks import Network, table

FOR_S = {
    "type": "number",
    "nullable": True,
    "min": 1,
    "max": 315_360_000,
    "meta": {
        "help": "How long; null: until it is taken back.",
        "unit": "s",
        "example": 3600,
    },
}
USER = {
    "type": "string",
    "required": True,
    "maxlength": 64,
    "meta": {"help": "The account's id.", "profile": "identifier"},
}
TOO_MANY = 0.05  # of the clients: so many are shut out by mistake only


class Administration(Looking):
    """The part of `Security` that changes it."""

    def _spare(self) -> None:
        raise NotImplementedError

    def load_rules(self) -> None:
        raise NotImplementedError

    @staticmethod
    def check_networks(texts: Iterable[str]) -> None:
        """Raises ValueError, which names the wrong one."""
        try:
            table(texts)
        except ValueError as error:
            raise ValueError(f"allow: {error}") from None

    def before_change(self, call: Call) -> None:
        """An administrator is about to change something. Raises StorageFull when the trail can't say so. Switches."""
        actor = call.user.id if call.user is not None else "operator"
        written = self.recorder.ensure(
            "operator.asks",
            "high",
            actor=actor,
            method=call.command.name,
            **call.connection.peer,
        )
        if written:
            return
        if call.connection.kind != "admin":
            raise StorageFull(
                "The audit trail can't be written, so nothing is changed; the operator's socket still works",
                retry_after=5.0,
            )
        self.log.error(
            "not in the audit trail (%s): %s by %s",
            self.trail.broken,
            call.command.name,
            actor,
        )

    # --- blocks -----------------------------------------------------------------------------------

    @command(
        "security.block",
        requires="admin",
        scope="security",
        http="POST /security/blocks",
        params={
            "network": NETWORK,
            "for_s": FOR_S,
            "reason": {**REASON, "required": True, "minlength": 1},
            "force": {
                "type": "boolean",
                "meta": {"help": "Although many clients or you yourself are in it."},
            },
        },
    )
    def block_network(
        self,
        call: Call,
        network: str,
        reason: str,
        for_s: float | None = 3600.0,
        force: bool = False,
    ) -> dict[str, Any]:
        """Block an address or a network for `for_s` seconds, or until it is taken back."""
        place = self._network(network)
        if self.answers.never.covers(place):
            raise PreconditionFailed(f"{place} is never blocked: it is exempt, a proxy or on the allowlist")
        if not force:
            self._check_sane(call, place)
        wall = self.server.clock.wall()
        until = None if for_s is None else wall + for_s
        block = Block(
            str(place),
            wall,
            until,
            "high",
            reason,
            call.user.id if call.user else "operator",
        )
        if not self.blocks.add(place, block):
            raise PreconditionFailed("There is no room for another block; take some back, or block a wider network")
        return self._row(block)

    def _check_sane(self, call: Call, place: Network) -> None:
        effect = self._effect(place)
        if any(c is call.connection for c in self.answers.connections(place)):
            raise PreconditionFailed("You are in this network yourself; with force it is blocked all the same")
        total = len(self.server.connections)
        if effect["connections"] > max(3, TOO_MANY * total):
            share = f"{effect['connections']} of {total} connections come from {place}"
            raise PreconditionFailed(f"{share}; with force it is blocked all the same")

    @command(
        "security.unblock",
        requires="admin",
        scope="security",
        http="DELETE /security/blocks/{network}",
        params={"network": NETWORK, "reason": REASON},
    )
    def unblock_network(self, call: Call, network: str, reason: str = "") -> bool:
        """Take a block back; what led to it is forgotten, and the next one is not longer for it."""
        place = self._network(network)
        self.acting = call.user.id if call.user else "operator"
        try:
            if self.blocks.remove(place, reason or "taken back", forgive=True) is None:
                raise ResourceNotFound(f"{place} is not blocked", field="params.network")
        finally:
            self.acting = None
        self.reputation.forget(str(place))
        return True

    # --- the allowlist ----------------------------------------------------------------------------

    @command("security.allowlist", requires="admin", scope="read", http="GET /security/allowlist")
    def allowlist(self) -> list[dict[str, Any]]:
        """List the networks that are never blocked, and why."""
        server = self.server.settings.server
        rows = [{"network": text, "reason": "[server] exempt", "actor": None} for text in server.exempt]
        rows += [
            {"network": text, "reason": "a trusted proxy", "actor": None}
            for limits in self.server.settings.listen
            for text in limits.proxy_from
        ]
        rows += [{"network": text, "reason": "[plugins.security] allow", "actor": None} for text in self.config.allow]
        return rows + [{"network": text, **held} for text, held in self.allowed.items()]

    @command(
        "security.allow",
        requires="admin",
        scope="security",
        http="POST /security/allowlist",
        params={"network": NETWORK, "reason": REASON},
    )
    def allow(self, call: Call, network: str, reason: str = "") -> bool:
        """Never count nor block a network; a block of it is taken back."""
        place = self._network(network)
        if len(self.allowed) >= 10_000:
            raise PreconditionFailed("The allowlist is full")
        self.allowed[str(place)] = {
            "reason": reason,
            "actor": call.user.id if call.user else "operator",
        }
        self._spare()
        self.blocks.remove(place, "allowed", forgive=True)
        self.reputation.forget(str(place))
        self.store.changed()
        return True

    @command(
        "security.disallow",
        requires="admin",
        scope="security",
        http="DELETE /security/allowlist/{network}",
        params={"network": NETWORK, "reason": REASON},
    )
    def disallow(self, network: str, reason: str = "") -> bool:
        """Take a network off the allowlist."""
        place = str(self._network(network))
        if self.allowed.pop(place, None) is None:
            raise ResourceNotFound(
                f"{place} was not put on the allowlist by a command",
                field="params.network",
            )
        self._spare()
        self.store.changed()
        return True

    # --- accounts, rules, mode --------------------------------------------------------------------

    @command(
        "security.suspend",
        requires="admin",
        scope="security",
        http="POST /security/suspensions",
        params={"user": USER, "for_s": FOR_S, "reason": REASON},
    )
    def suspend(self, user: str, for_s: float | None = None, reason: str = "") -> Any:
        """Suspend an account, by the plugin that keeps accounts."""
        return self.answers.suspend(user, for_s, reason)

    @command(
        "security.reinstate",
        requires="admin",
        scope="security",
        http="DELETE /security/suspensions/{user}",
        params={"user": USER, "reason": REASON},
    )
    def reinstate(self, user: str, reason: str = "") -> Any:
        """Take a suspension back, and forget what led to it."""
        done = self.server.call("account.reinstate", {"user": user, "reason": reason})
        self.reputation.accounts.scale(user, 0.0)
        return done

    @command(
        "security.rule",
        requires="admin",
        scope="security",
        http="PUT /security/rules/{id}",
        params={
            "id": {"type": "string", "required": True, "maxlength": 64},
            "on": {"type": "boolean", "required": True},
            "reason": REASON,
        },
    )
    def rule(self, id: str, on: bool, reason: str = "") -> bool:
        """Switch a rule on or off, at once and after a restart."""
        if all(rule.id != id for rule in self.known_rules):
            raise ResourceNotFound(f"There is no rule {id[:64]!r}", field="params.id")
        self.switched[id] = on
        self.server.pool("security.files", 1, 16).run(self.load_rules)
        self.store.changed()
        return on

    @command(
        "security.mode",
        requires="admin",
        scope="security",
        http="PUT /security/mode",
        params={
            "mode": {
                "type": "string",
                "allowed": ["enforce", "observe"],
                "required": True,
            },
            "reason": REASON,
        },
    )
    def set_mode(self, mode: str, reason: str = "") -> str:
        """Enforce, or only observe: everything but the answers. Blocks that stand stay in force either way."""
        if mode not in ("enforce", "observe"):
            raise InvalidValue("Expected enforce or observe", field="params.mode")
        self.mode = mode
        self.attack.apply()
        self.store.changed()
        return mode
