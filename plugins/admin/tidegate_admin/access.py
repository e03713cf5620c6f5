"""Who asks: an administrators' token in a header, or a browser's session with its proof against forged requests."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tidegate import OPERATOR, Connection, Fault, User
from tidegate.faults import AccessDenied, AuthenticationRequired, RateLimitExceeded, TokenInvalid

if TYPE_CHECKING:
    from tidegate_admin import Admin
    from tidegate_admin.request import Request

MAX_SESSIONS = 1000
MAX_TOKEN = 512
CSRF_HEADER = "X-CSRF-Token"
_SAFE = ("GET", "HEAD")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,}")


class Caller(NamedTuple):
    """`user` is set where this plugin knows it (the operator's token), else `auth` is what accounts will judge.

    `key` counts for limits and shows nothing of the token.
    """

    user: User | None
    auth: str | None
    key: str
    session: str | None = None  # its id
    entered: bool = False  # with a name and a password: the account's session ends with this one


class Access:
    """Tokens and sessions. A session is kept under its id's hash, with its token sealed by the id: what is kept
    opens nothing without the browser's cookie."""

    def __init__(self, plugin: Admin) -> None:
        self.plugin = plugin
        self.server = plugin.server
        self.token: str | None = None  # the operator's; None with accounts
        state = self.server.state
        self._sessions = state.values("admin.sessions", cap=MAX_SESSIONS)
        self._rate = state.limit("admin.requests", plugin.config.rate, cap=10_000)
        self._failures = state.limit("admin.failures", plugin.config.failures, cap=10_000)

    # --- who --------------------------------------------------------------------------------------

    def caller(self, request: Request, connection: Connection) -> Caller:
        """Who sent it.

        Raises AuthenticationRequired, TokenInvalid, RateLimitExceeded, and AccessDenied for a forged request.
        """
        bearer = request.bearer
        if bearer is None:
            if (caller := self.session(request)) is not None:
                if request.method not in _SAFE:
                    self.check_forgery(request, caller)
                self.spend(caller.key)
                return caller
            self.spend(str(connection.prefix))
            raise AuthenticationRequired("Send an administrator's token: Authorization: Bearer TOKEN")
        key = self.server.fingerprint(bearer)
        self.spend(key if self.right(bearer) else str(connection.prefix))
        return self.judged(bearer, connection, key)

    def right(self, token: str) -> bool:
        """Whether it is the operator's token."""
        return self.token is not None and hmac.compare_digest(token.encode(), self.token.encode())

    def judged(self, token: str, connection: Connection, key: str = "") -> Caller:
        """The caller with this token, as far as this plugin can say. Raises TokenInvalid, RateLimitExceeded."""
        if self.token is None:
            self.check_failures(connection)
            if not (0 < len(token) <= MAX_TOKEN and token.isascii() and token.isprintable()):
                self.failed(connection)
                raise TokenInvalid
            return Caller(None, token, key)
        if self.right(token):
            return Caller(OPERATOR, None, key)
        self.failed(connection)
        peer = connection.peer
        proof = self.server.fingerprint(token)
        self.server.publish("login.failed", **peer, name="", known=False, proof=proof, reason="token")
        raise TokenInvalid

    def spend(self, key: str) -> None:
        """Count a request. Raises RateLimitExceeded."""
        if (wait := self._rate.hit(key)) > 0:
            raise RateLimitExceeded(retry_after=wait)

    def check_failures(self, connection: Connection) -> None:
        """Raises RateLimitExceeded for an address from which too many wrong proofs came."""
        if (wait := self._failures.hit(str(connection.prefix), cost=0)) > 0:
            raise RateLimitExceeded("Too many wrong tokens or passwords from your address", retry_after=wait)

    def failed(self, connection: Connection) -> None:
        """Count a wrong proof. Raises RateLimitExceeded when there were too many."""
        if (wait := self._failures.hit(str(connection.prefix))) > 0:
            raise RateLimitExceeded("Too many wrong tokens or passwords from your address", retry_after=wait)

    # --- sessions ---------------------------------------------------------------------------------

    @staticmethod
    def cookie_name(request: Request) -> str:
        """Browsers keep one jar for all ports of a host, so the name has the port."""
        return f"{'__Host-' if request.secure else ''}tidegate-{request.port}"

    def start(self, caller: Caller) -> str:
        """A new session's id, which is the cookie's value."""
        id = secrets.token_urlsafe(32)
        auth = (caller.auth or "").encode()
        sealed = bytes(a ^ b for a, b in zip(auth, self._pad(id, len(auth)), strict=True))
        kept = f"{'entered' if caller.entered else 'token'}:{sealed.hex()}"
        self._sessions.set(self._key(id), kept, self.plugin.config.session_s)
        return id

    def session(self, request: Request) -> Caller | None:
        """The caller of a browser that is logged in."""
        id = request.cookie(self.cookie_name(request))
        if not id or not _TOKEN.fullmatch(id):
            return None
        kept = self._sessions.get(key := self._key(id))
        if kept is None:
            return None
        means, _, sealed = kept.partition(":")
        hidden = bytes.fromhex(sealed)
        auth = bytes(a ^ b for a, b in zip(hidden, self._pad(id, len(hidden)), strict=True)).decode()
        if not auth and self.token is None:
            return None  # the operator's, from before there were accounts
        return Caller(None if auth else OPERATOR, auth or None, key, id, means == "entered")

    def end(self, caller: Caller) -> None:
        """Log the browser out."""
        if caller.session is not None:
            self._sessions.pop(self._key(caller.session))

    @staticmethod
    def csrf(id: str) -> str:
        """What a page of ours sends with each change: other sites' pages can't read it."""
        return hashlib.blake2b(id.encode(), digest_size=16, person=b"tidegate.csrf").hexdigest()

    def check_forgery(self, request: Request, caller: Caller) -> None:
        """Raises AccessDenied for a change that no page of ours sent."""
        sent = request.header(CSRF_HEADER)
        assert caller.session is not None
        if not hmac.compare_digest(sent.encode(), self.csrf(caller.session).encode()) or not request.same_origin:
            raise AccessDenied(f"A change needs the header {CSRF_HEADER}", log="a forged request, or an old page")

    @staticmethod
    def _key(id: str) -> str:
        return hashlib.blake2b(id.encode(), digest_size=16, person=b"tidegate.key").hexdigest()

    @staticmethod
    def _pad(id: str, length: int) -> bytes:
        return hashlib.shake_256(b"tidegate.seal" + id.encode()).digest(length)


def operator_token(folder: Path) -> str:
    """The token in `folder/token`, mode 0600; made when there is none. Reads and writes files. Raises OSError.

    One that others could read is replaced.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "token"
    try:
        kept = path.read_text().strip()
        if stat.S_IMODE(path.stat().st_mode) == 0o600 and _TOKEN.fullmatch(kept):
            return kept
        path.unlink()
    except FileNotFoundError:
        pass
    token = secrets.token_urlsafe(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{token}\n")
    return token


def refused(fault: Fault) -> bool:
    """Whether it says that a proof was wrong."""
    return fault.code in (1001, 1003, 1004, 1006, 1008)
