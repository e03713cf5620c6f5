"""Talking to a running server: which one, as whom, and what is said when it does not answer."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tidegate.cli.display import emit, fault_object, note, show_fault
from tidegate.cli.options import FILE, FOLDER, REFUSED, UNREACHED, Configuration, gathering, refuse

if TYPE_CHECKING:
    from tidegate.client import Client

DEFAULT = "127.0.0.1:7420"
_NOBODY = (1007, 1010)  # the command needs a user, and there is none


@dataclass
class Remote:
    """Which server to ask: the options of `@remote`."""

    data: Path | None
    connect: str | None
    token: str | None
    tls: bool
    ca: Path | None
    cert: Path | None
    timeout: float

    @property
    def name(self) -> str:
        """As people call it: `127.0.0.1:7420`, `./data`."""
        return str(self.data) if self.data else self.connect or DEFAULT

    def client(self, timeout: float | None = None) -> Client:
        """A connected client. Raises OSError, or the Fault of a server that refuses it."""
        from tidegate.client import Client

        timeout = timeout or self.timeout
        if self.data is not None:
            return Client.operator(self.data, timeout=timeout)
        try:
            return Client(self.connect or DEFAULT, timeout=timeout, tls=self.context(), token=self.token)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--connect") from None

    def context(self) -> ssl.SSLContext | None:
        """How to check the server's certificate, and what to show it; None for a plain connection."""
        if not (self.tls or self.ca or self.cert):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert)
        except OSError as error:
            raise click.UsageError(f"--ca, --cert: expected PEM files: {reason_of(error)}") from None
        return context

    @contextmanager
    def connected(self, as_json: bool = False) -> Iterator[Client]:
        """A client; a fault is shown and exits with 1, a server that does not answer with 3."""
        from tidegate.faults import Fault

        try:
            with self.client() as client:
                yield client
        except Fault as fault:
            if as_json:
                emit({"error": fault_object(fault)})
            else:
                show_fault(fault)
                if fault.code in _NOBODY and self.data is None:
                    note("on the server's own machine, --data DIR makes you its operator")
            raise SystemExit(REFUSED) from None
        except OSError as error:
            if as_json:
                emit({"unreached": self.name, "reason": reason_of(error)})
            refuse(self.unreached(error), UNREACHED)

    def unreached(self, error: OSError) -> str:
        """Why there is no answer, and what to do."""
        reason = reason_of(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"{self.name}: {reason}; name its authority with --ca"
        if self.data is not None and isinstance(error, PermissionError):
            return f"{self.name}: {reason}; only who the server runs as may use its operator's socket"
        if not isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
            return f"{self.name}: {reason}"
        if self.data is not None:
            return f"no server answers in {self.name}: {reason}; start one, or name the folder it was given with --data"
        advice = "start one with `tidegate serve`, or say where it is with --connect or --data"
        return f"no server answers on {self.name}: {reason}; {advice}"


def reason_of(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return str(error) if error.strerror is None and str(error) else "no answer in time"
    return str(error.strerror or error or type(error).__name__)


#: The options of every subcommand that talks to a running server; handed in as `remote`.
remote = gathering(
    Remote,
    "remote",
    click.option(
        "--data", type=FOLDER, metavar="DIR", help="Act as the operator, over the socket in the server's data folder."
    ),
    click.option(
        "--connect",
        envvar="TIDEGATE_CONNECT",
        show_envvar=True,
        metavar="ADDRESS",
        help=f"HOST:PORT or unix:/PATH.  [{DEFAULT}]",
    ),
    click.option(
        "--token",
        envvar="TIDEGATE_TOKEN",
        show_envvar=True,
        metavar="TEXT",
        help="Who calls. Others see a command line, so prefer the variable.",
    ),
    click.option("--tls", is_flag=True, help="Over TLS."),
    click.option("--ca", type=FILE, metavar="FILE", help="Over TLS; whom to trust: an authority's certificates, PEM."),
    click.option("--cert", type=FILE, metavar="FILE", help="Over TLS; who we are: our certificate and its key, PEM."),
    click.option(
        "--timeout",
        type=click.FloatRange(0, min_open=True),
        default=30.0,
        metavar="SECONDS",
        show_default=True,
        help="How long to wait.",
    ),
)


def described(client: Client) -> dict[str, dict[str, Any]]:
    """The commands that the caller may use, by name: OpenRPC method objects."""
    document = client.call("rpc.discover")
    return {method["name"]: method for method in document["methods"]}


def running(ctx: click.Context, configuration: Configuration, remote: Remote) -> bool:
    """Whether a running server is to be asked, as --data or --connect say.

    Raises UsageError when both kinds of options were given.
    """
    if remote.data is None and remote.connect is None:
        return False
    if not configuration:
        return True
    if remote.data is None and ctx.get_parameter_source("connect") is ParameterSource.ENVIRONMENT:
        return False
    raise click.UsageError(
        "--data and --connect ask a running server; --config, --set, --commands, --only and --without describe one"
    )
