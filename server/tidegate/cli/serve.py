"""`tidegate serve`."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import click

from tidegate.cli.options import FOLDER, Configuration, configured, refusing, version


@click.command()
@configured
@click.option("--data", type=FOLDER, metavar="DIR", help="Where everything is written.  [./data]")
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="HOST:PORT, [IPV6]:PORT or unix:/PATH; port 0 prints the one it got.  [127.0.0.1:7420]",
)
def serve(configuration: Configuration, data: Path | None, listen: str | None) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends at once.

    SIGHUP reads the configuration and the certificates again. Without a file it serves what is
    installed, on 127.0.0.1:7420.

    \b
    Examples:
      tidegate serve
      tidegate serve --commands shop.commands --listen 127.0.0.1:0
      tidegate serve --config etc/tidegate.toml --set server.log_level=debug
    """
    from tidegate.log import Log

    flags = {"listen.0.address": listen, "server.data": str(data) if data else None}
    reread = partial(configuration.read, flags)
    with refusing():
        server = configuration.server(reread())
        server.life.reread = reread
        settings = server.settings.server
        log = Log(level=settings.log_level, format=settings.log_format)
        log.install()
        server.logs = log
        server.life.on_reload.append(log.reopen)
        server.life.on_start.append(lambda: announce(server.addresses))
        try:
            code = server.run()
        finally:
            log.close()
    end(code)


def end(code: int) -> NoReturn:
    """End the process as `sys.exit` does, but for the interpreter's own teardown.

    That one frees the stacks of threads that still work, and then looks through the greenlets that stand on them
    (tests/trouble: one stop in ten under load ended with SIGSEGV).
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def announce(addresses: list[str]) -> None:
    click.echo(f"tidegate {version()} serves on {', '.join(addresses)} (pid {os.getpid()})")
    sys.stdout.flush()
