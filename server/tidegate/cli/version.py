"""`tidegate version`."""

from __future__ import annotations

import platform
from importlib.metadata import version as version_of

import click

from tidegate.cli.display import emit, pairs
from tidegate.cli.options import as_json
from tidegate.cli.options import version as core_version


@click.command()
@as_json
def version(as_json: bool) -> None:
    """The versions of Tidegate, its hooks and protocol, and the plugins.

    Imports no plugin; `tidegate plugins` also says whether each of them works.
    """
    from tidegate.core import PROTOCOL
    from tidegate.hookspecs import API
    from tidegate.registry import installed

    plugins = [
        {"name": p.name, "version": p.dist.version if p.dist else "?", "distribution": p.dist.name if p.dist else "?"}
        for p in installed()
    ]
    versions = {
        "tidegate": core_version(),
        "hook_api": "{}.{}".format(*API),
        "protocol": PROTOCOL,
        "python": platform.python_version(),
        "gevent": version_of("gevent"),
    }
    if as_json:
        return emit({**versions, "plugins": plugins})
    pairs({name.replace("_", " "): value for name, value in versions.items()})
    pairs({p["name"]: f"{p['version']} ({p['distribution']})" for p in plugins}, indent="  ")
