"""A request as the site sees it, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from itertools import accumulate
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec
from tidegate.faults import InvalidEncoding, InvalidValue, MalformedRequest, NestingTooDeep, ProtocolError, TooManyItems

from tidegate_admin.proxies import Network, client_of, is_trusted
from tidegate_admin.settings import is_address

MAX_DEPTH = 32
MAX_QUERY = 100  # fields
_encode = msgspec.json.Encoder(order="deterministic").encode
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
Headers = list[tuple[str, str]]


class Answer(NamedTuple):
    """`body`: bytes, or parts that come when they come (then no length is known)."""

    status: str
    body: bytes | Iterable[bytes] = b""
    headers: Headers = []


class Request:
    """One request. Segments of the path are decoded one by one, so that `%2F` stays inside its segment."""

    def __init__(self, environ: Mapping[str, Any], proxies: Sequence[Network] = ()) -> None:
        self.environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self.raw_path: str = environ["tidegate.path"]
        self.body: bytes = environ["tidegate.body"]
        peer: str | None = environ.get("REMOTE_ADDR")
        self.address = client_of(peer, self.header("X-Forwarded-For"), proxies)
        self.secure = environ["wsgi.url_scheme"] == "https"
        if is_trusted(peer, proxies) and (scheme := self.header("X-Forwarded-Proto")):
            self.secure = scheme.rpartition(",")[2].strip().lower() == "https"

    @property
    def segments(self) -> list[str]:
        """`["api", "v1", "commands"]`. Raises InvalidEncoding."""
        try:
            return [unquote(part, errors="strict") for part in self.raw_path.split("/")[1:]]
        except UnicodeDecodeError:
            raise InvalidEncoding("The path is not UTF-8") from None

    def header(self, name: str) -> str:
        """A header's value, empty when it was not sent."""
        key = name.upper().replace("-", "_")
        return str(self.environ.get(key if key.startswith("CONTENT_") else f"HTTP_{key}", ""))

    @property
    def host(self) -> str:
        """The name or address in the Host header, without its port."""
        text = self.header("Host").lower()
        if text.startswith("["):
            return text[1:].partition("]")[0]
        return text.rpartition(":")[0] if ":" in text else text

    @property
    def port(self) -> str:
        """The port that the browser asked, which behind a proxy is not ours."""
        port = self.header("Host").rpartition("]")[2].partition(":")[2]
        return port if port.isascii() and port.isdigit() else "443" if self.secure else "80"

    def for_us(self, hosts: Iterable[str]) -> bool:
        """Whether Host is an address or a name of ours: a page of somebody else's, whose name was made to point here
        (DNS rebinding), says another."""
        host = self.host
        return is_address(host) or host == "localhost" or host in hosts

    @property
    def same_origin(self) -> bool:
        """Whether a page of ours sent it, or no page; as far as the browser says."""
        if self.header("Sec-Fetch-Site") not in ("", "same-origin", "none"):
            return False
        origin = self.header("Origin")
        return not origin or origin.lower() == f"{'https' if self.secure else 'http'}://{self.header('Host').lower()}"

    @property
    def bearer(self) -> str | None:
        """The token of `Authorization: Bearer TOKEN`."""
        scheme, _, token = self.header("Authorization").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None

    def cookie(self, name: str) -> str | None:
        try:
            found = SimpleCookie(self.header("Cookie")).get(name)
        except CookieError:
            return None
        return found.value if found is not None else None

    # --- parameters -------------------------------------------------------------------------------

    def query(self) -> list[tuple[str, str]]:
        """The fields behind `?`. Raises InvalidEncoding, TooManyItems."""
        try:
            return parse_qsl(
                self.environ.get("QUERY_STRING", ""),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=MAX_QUERY,
            )
        except UnicodeDecodeError:
            raise InvalidEncoding("The query is not UTF-8") from None
        except ValueError:
            raise TooManyItems(f"At most {MAX_QUERY} parameters") from None

    def form(self) -> dict[str, str]:
        """The fields of a form that was posted. Raises InvalidEncoding, TooManyItems."""
        try:
            text = self.body.decode()
            return dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY))
        except UnicodeDecodeError:
            raise InvalidEncoding("The form is not UTF-8") from None
        except ValueError:
            raise TooManyItems(f"At most {MAX_QUERY} fields") from None

    def json(self) -> dict[str, Any]:
        """The body as an object; no body is an empty one. Raises the fault that says what is wrong with it."""
        if not self.body.strip():
            return {}
        kind = self.header("Content-Type").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ProtocolError("Expected Content-Type: application/json")
        if depth(self.body) > MAX_DEPTH:
            raise NestingTooDeep
        try:
            value = msgspec.json.decode(self.body)
        except UnicodeDecodeError:
            raise InvalidEncoding from None
        except msgspec.DecodeError as error:
            raise MalformedRequest(f"The body is no JSON: {error}") from None
        if not isinstance(value, dict):
            raise ProtocolError("Expected an object with the parameters by name")
        return value


def depth(data: bytes) -> int:
    """How deep brackets nest, those in strings counted too: at least as deep as the value."""
    steps = (1 if byte in b"[{" else -1 for byte in data.translate(None, _NO_BRACKETS))
    return max(accumulate(steps), default=0)


def typed(fields: Iterable[tuple[str, str]], schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Query fields with the types that their JSON Schemas name; what is not of its type stays text, and the command's
    own check refuses it. Raises InvalidValue for a field that is there twice."""
    params: dict[str, Any] = {}
    for name, text in fields:
        kinds = schemas.get(name, {}).get("type", "string")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if "array" in kinds:
            items = schemas[name].get("items", {})
            params.setdefault(name, []).append(typed([("item", text)], {"item": items})["item"])
            continue
        if name in params:
            raise InvalidValue(f"{name[:64]} is there twice", field=f"params.{name[:64]}")
        params[name] = _typed(text, kinds)
    return params


def _typed(text: str, kinds: Iterable[str]) -> Any:
    for kind in kinds:
        if kind == "boolean" and text in ("true", "false"):
            return text == "true"
        if kind == "null" and text == "null":
            return None
        if kind in ("integer", "number", "object"):
            try:
                value = msgspec.json.decode(text)
            except (msgspec.DecodeError, UnicodeEncodeError):
                continue
            right = {"integer": int, "number": (int, float), "object": dict}[kind]
            if isinstance(value, right) and not isinstance(value, bool):  # type: ignore[arg-type]
                return value
    return text


def json_answer(value: Any, status: str = "200 OK", headers: Headers | None = None) -> Answer:
    """A value as JSON. Raises what the encoder raises."""
    return Answer(status, _encode(value), [("Content-Type", "application/json"), *(headers or [])])
