"""Accounts: who a client is, and what lets them in."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, cast

from tidegate import Call, Command, Server, hookimpl

from tidegate_accounts.administration import Administration
from tidegate_accounts.passwords import Passwords
from tidegate_accounts.people import CHANNEL, Directory, People
from tidegate_accounts.settings import SETTINGS
from tidegate_accounts.tables import MIGRATIONS, metadata
from tidegate_accounts.texts import key_of
from tidegate_accounts.throttle import Throttle


class Accounts(Administration):
    """Users, roles and sessions; fills `call.user` and `server.directory`."""

    ring = "identify"
    needs = ("transactions",)
    claims = frozenset({"auth"})
    settings = SETTINGS
    offers = {"tables": (metadata, MIGRATIONS)}

    def configure(self, config: Any) -> None:
        throttle = Throttle(self.server, config)  # raises ValueError for a rate that is none
        if not hasattr(self, "people"):
            self.people = People(self)
            self.passwords = Passwords(self.server, config)
        self.throttle = throttle
        self.passwords.configure(config)
        self.session_ttl_s: float = config.session_ttl_s
        self.token_ttl_s: float = config.token_ttl_s
        self.max_sessions: int = config.max_sessions
        self.max_tokens: int = config.max_tokens
        self.registration: bool = config.registration
        self.reserved = frozenset(map(key_of, config.reserved_names))

    @hookimpl
    def tidegate_serve(self, server: Server) -> Generator[None, None, None]:
        self.passwords.load()
        heard = server.bus.subscribe(CHANNEL, self.people.heard)
        before, server.directory = server.directory, cast(Any, Directory(self.people))
        house = server.spawn(self.people.keep_house, self)
        yield
        house.kill()
        self.people.flush(self.session_ttl_s)
        server.directory = before
        heard.close()

    @hookimpl
    def tidegate_decorate(self, command: Command, proceed: Callable[[Call], Any]) -> Callable[[Call], Any]:
        identify = self.people.identify

        def known(call: Call) -> Any:
            if call.auth is not None or (call.user is None and call.connection.certificate is not None):
                identify(call)
            return proceed(call)

        return known
