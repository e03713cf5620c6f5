"""The site: what each path answers. A WSGI application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from tidegate import Connection, Fault
from tidegate.faults import (
    AccessDenied,
    AuthorizationDenied,
    ConflictingValues,
    InvalidValue,
    MethodNotFound,
    UnsupportedOperation,
)

from tidegate_admin import problems, prometheus
from tidegate_admin.access import Access, Caller, refused
from tidegate_admin.assets import PUBLIC, Asset
from tidegate_admin.feeds import MAX_WATCHED
from tidegate_admin.openapi import Operation
from tidegate_admin.request import Answer, Headers, Request, json_answer, typed

if TYPE_CHECKING:
    from tidegate_admin import Admin

_encode = msgspec.json.encode
#: Nothing from elsewhere, no inline script or style, no text that becomes markup, in nobody's frame.
SECURITY: Headers = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),  # with no-referrer browsers send Origin: null for our own form
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
]
_HSTS = ("Strict-Transport-Security", "max-age=31536000")
_NO_STORE = ("Cache-Control", "no-store")


class Site:
    """Answers requests; every command runs through `Server.call`, as over TCP."""

    def __init__(self, plugin: Admin, access: Access, assets: dict[str, Asset]) -> None:
        self.plugin = plugin
        self.server = plugin.server
        self.access = access
        self.assets = assets

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ, self.plugin.proxies)
        try:
            answer = self._answer(request)
        except Exception as error:
            answer = self._problem(error)
        headers = [*answer.headers, *SECURITY, *([_HSTS] if request.secure else [])]
        if not any(name == "Cache-Control" for name, _ in headers):
            headers.append(_NO_STORE)
        if not isinstance(answer.body, bytes):
            start_response(answer.status, headers)
            return answer.body
        if answer.status[:3] not in ("204", "304"):
            headers.append(("Content-Length", str(len(answer.body))))
        start_response(answer.status, headers)
        return [] if request.method == "HEAD" else [answer.body]

    def _problem(self, error: Exception) -> Answer:
        fault = error if isinstance(error, Fault) else self.server.fault_of(error)
        request_id = fault.request_id or self.server.new_id()
        if fault is not error:
            self.plugin.log.error("a request failed, %s", request_id, exc_info=error)
        body = problems.problem(fault, request_id)
        headers = [("Content-Type", problems.CONTENT_TYPE)]
        if (wait := body.get("retry_after")) is not None:
            headers.append(("Retry-After", str(max(1, round(wait + 0.5)))))
        if body["status"] == 401:
            headers.append(("WWW-Authenticate", "Bearer"))
        if allowed := fault.data.get("allowed"):
            headers.append(("Allow", ", ".join(allowed)))
        if fault.closes:
            headers.append(("Connection", "close"))
        return Answer(status_line(body["status"]), _encode(body), headers)

    # --- paths ------------------------------------------------------------------------------------

    def _answer(self, request: Request) -> Answer:
        first, *rest = request.segments or [""]
        if [first, *rest] == ["health", "live"]:
            only(request, "GET")
            return Answer("200 OK", b"live\n", [("Content-Type", "text/plain; charset=utf-8")])
        if not request.for_us(self.plugin.config.hosts):
            raise AccessDenied("This name is not mine; [plugins.admin] hosts has those that are")
        # The plugins' say first: an address that is blocked gets no further.
        with self.server.door("http", address=request.address) as door:
            if first == "api" and rest[:1] == ["v1"]:
                return self._api(request, rest[1:], door)
            if first == "health" and rest == ["ready"]:
                return self._ready(request, door)
            if first == "metrics" and not rest:
                return self._metrics(request, door)
            return self._page(request, [first, *rest], door)

    def _ready(self, request: Request, door: Connection) -> Answer:
        only(request, "GET")
        found = self._call(self.access.caller(request, door), door, "admin.ready", {})
        return json_answer(found, "200 OK" if found["ready"] else "503 Service Unavailable")

    def _metrics(self, request: Request, door: Connection) -> Answer:
        only(request, "GET")
        caller = self.access.caller(request, door)
        gauges = self._call(caller, door, "system.gauges", {})
        known = self.server.commands
        metrics = errors = None
        if "monitoring.metrics" in known:
            metrics = self._call(caller, door, "monitoring.metrics", {"seconds": 60})
        if "errors.stats" in known:
            errors = self._call(caller, door, "errors.stats", {})
        text = prometheus.page(gauges, metrics, errors)
        return Answer("200 OK", text.encode(), [("Content-Type", prometheus.CONTENT_TYPE)])

    # --- the API ----------------------------------------------------------------------------------

    def _api(self, request: Request, path: list[str], door: Connection) -> Answer:
        caller = self.access.caller(request, door)
        if path == ["openapi.json"]:
            only(request, "GET")
            self._call(caller, door, "admin.whoami", {})
            return self._kept(request, self.plugin.openapi)
        if path == ["stream"]:
            only(request, "GET")
            return self._stream(request, caller, door)
        operation, params = self._operation(request, path)
        return json_answer(self._call(caller, door, operation.command.name, params))

    def _operation(self, request: Request, path: list[str]) -> tuple[Operation, dict[str, Any]]:
        """Which command, with which parameters. Raises MethodNotFound, UnsupportedOperation, and what its body is."""
        method = "GET" if request.method == "HEAD" else request.method
        found = [(one, given) for one in self.plugin.operations if (given := one.takes(path)) is not None]
        if len(path) == 2 and path[0] == "commands":
            found += [
                (one._replace(method="POST"), {}) for one in self.plugin.operations if one.command.name == path[1]
            ]
        if not found:
            raise MethodNotFound("There is nothing at this path; /api/v1/openapi.json says what is where")
        # OpenAPI 3.1, Paths Object: `/users/mine` is looked at before `/users/{user}`.
        plainest = min(len(given) for _, given in found)
        found = [(one, given) for one, given in found if len(given) == plainest]
        for operation, given in found:
            if operation.method == method:
                fields = {name: typed([(name, text)], operation.schemas)[name] for name, text in given.items()}
                if method in ("GET", "DELETE"):
                    params = typed(request.query(), operation.schemas)
                else:
                    if request.query():
                        raise InvalidValue("Parameters go into the body", field="params")
                    params = request.json()
                if twice := fields.keys() & params.keys():
                    raise ConflictingValues(f"{min(twice)} is in the path already", field=f"params.{min(twice)}")
                return operation, params | fields
        raise UnsupportedOperation(allowed=sorted({operation.method for operation, _ in found}))

    def _call(self, caller: Caller, door: Connection, name: str, params: dict[str, Any]) -> Any:
        """Run a command as this caller. Raises its fault."""
        try:
            return self.server.call(name, params, connection=door, user=caller.user, auth=caller.auth)
        except Fault as fault:
            if caller.auth is not None and refused(fault):
                if caller.session is not None:
                    self.access.end(caller)
                self.access.failed(door)
            raise

    def _stream(self, request: Request, caller: Caller, door: Connection) -> Answer:
        names = frozenset(text for name, text in request.query() if name == "watch")
        if len(names) > MAX_WATCHED:
            raise InvalidValue(f"At most {MAX_WATCHED} commands are watched", field="params.watch")
        for name in sorted(names):
            self.plugin.check_watchable(name)
        self._call(caller, door, "admin.whoami", {})

        def allowed() -> None:
            if caller.session is not None and self.access.session(request) is None:
                raise AccessDenied("Logged out")
            with self.server.door("http", address=request.address) as again:
                self._call(caller, again, "admin.whoami", {})

        frames = self.plugin.feeds.stream(names, allowed)
        headers = [("Content-Type", "text/event-stream"), ("X-Accel-Buffering", "no"), ("Connection", "close")]
        return Answer("200 OK", frames, headers)

    # --- the page ---------------------------------------------------------------------------------

    def _page(self, request: Request, path: list[str], door: Connection) -> Answer:
        if path == ["login"]:
            return self._login(request, door)
        if path == ["logout"]:
            return self._logout(request, door)
        inside = self.access.session(request) is not None
        if path == [""]:
            only(request, "GET")
            return self._file(request, "index.html") if inside else see("/login")
        if len(path) == 2 and path[0] == "assets" and path[1] in self.assets and (inside or path[1] in PUBLIC):
            only(request, "GET")
            return self._file(request, path[1])
        raise MethodNotFound("There is nothing at this path")

    def _file(self, request: Request, name: str) -> Answer:
        return self._kept(request, self.assets[name])

    @staticmethod
    def _kept(request: Request, asset: Asset) -> Answer:
        """A file that browsers keep and ask about: 304 when it is the same."""
        headers = [("ETag", asset.etag), ("Cache-Control", "no-cache"), ("Vary", "Accept-Encoding")]
        if asset.etag in [part.strip().removeprefix("W/") for part in request.header("If-None-Match").split(",")]:
            return Answer("304 Not Modified", b"", headers)
        headers.append(("Content-Type", asset.type))
        if asset.packed is not None and "gzip" in request.header("Accept-Encoding"):
            return Answer("200 OK", asset.packed, [*headers, ("Content-Encoding", "gzip")])
        return Answer("200 OK", asset.data, headers)

    def _login(self, request: Request, door: Connection) -> Answer:
        if request.method in ("GET", "HEAD"):
            return see("/") if self.access.session(request) else self._form("")
        only(request, "POST", "GET")
        if not request.same_origin:
            raise AccessDenied("Log in on the page of this site")
        try:
            caller = self._proven(request.form(), door)
            self._call(caller, door, "admin.whoami", {})
        except AuthorizationDenied:
            return self._form("This is no administrator, or a token without the scope “read”.", "403 Forbidden")
        except Fault as fault:
            return self._form(fault.message, status_line(problems.status_of(fault)))
        return see("/", self._cookies(request, self.access.start(caller)))

    def _proven(self, fields: dict[str, str], door: Connection) -> Caller:
        """Who fills in the form. Raises the fault."""
        name, token = fields.get("name", "").strip(), fields.get("token", "").strip()
        if not name or "account.login" not in self.server.commands:
            return self.access.judged(token, door)
        self.access.check_failures(door)
        params = {"name": name, "password": fields.get("password", ""), "label": "admin site"}
        try:
            token = self.server.call("account.login", params, connection=door)["token"]
        except Fault as fault:
            if refused(fault):
                self.access.failed(door)
            raise
        return Caller(None, token, "", entered=True)

    def _form(self, problem: str, status: str = "200 OK") -> Answer:
        """The page that asks who it is; names and passwords only where there are accounts."""
        page = self.assets["login.html"].data.decode()
        for mark, text in (("{title}", self.server.settings.server.name), ("{problem}", problem)):
            page = page.replace(mark, escape(text))
        page = page.replace("{names}", "" if "account.login" in self.server.commands else "hidden disabled")
        page = page.replace("{operator}", "" if self.access.token is not None else "hidden")
        page = page.replace("{told}", "" if problem else "hidden")
        return Answer(status, page.encode(), [("Content-Type", "text/html; charset=utf-8")])

    def _logout(self, request: Request, door: Connection) -> Answer:
        only(request, "POST")
        if (caller := self.access.session(request)) is not None:
            self.access.check_forgery(request, caller)
            self.access.end(caller)
            if caller.entered:
                try:
                    self.server.call("account.logout", connection=door, auth=caller.auth)
                except Fault as fault:
                    self.plugin.log.debug("the account's session was over already: %s", fault)
        return see("/login", self._cookies(request, None))

    def _cookies(self, request: Request, id: str | None) -> Headers:
        """The session's cookie, which scripts can't read, and its proof for our own page, which can."""
        name, secure = self.access.cookie_name(request), "; Secure" if request.secure else ""
        age = int(self.plugin.config.session_s) if id else 0
        rest = f"; Path=/; Max-Age={age}; SameSite=Strict{secure}"
        proof = self.access.csrf(id) if id else ""
        return [
            ("Set-Cookie", f"{name}={id or ''}; HttpOnly{rest}"),
            ("Set-Cookie", f"{name}-csrf={proof}{rest}"),
        ]


def only(request: Request, *methods: str) -> None:
    """Raises UnsupportedOperation for another method."""
    if ("GET" if request.method == "HEAD" else request.method) not in methods:
        raise UnsupportedOperation(allowed=sorted(methods))


def see(where: str, headers: Headers | None = None) -> Answer:
    return Answer("303 See Other", b"", [("Location", where), *(headers or [])])


def status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Fault"
