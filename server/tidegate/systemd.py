"""What systemd wants to hear and what it hands over: sd_notify and socket activation.

After sd_notify(3) and sd_listen_fds(3); without systemd both do nothing.
"""

from __future__ import annotations

import os
import socket

LISTEN_FDS_START = 3  # SD_LISTEN_FDS_START
MAX_LISTEN_FDS = 1024  # ours: a mistaken LISTEN_FDS must not probe for ever


def notify(state: str) -> bool:
    """Tell the service manager, `READY=1` or `STATUS=Serving on 127.0.0.1:7420`; whether it heard.

    Several assignments are separated by newlines. Never raises and never blocks.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):  # unset, or vsock:, which no service on this machine gets
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            return manager.sendto(state.encode(), address) > 0
    except (OSError, ValueError):
        return False


def listen_sockets() -> dict[str, socket.socket]:
    """The sockets that systemd opened for this process, by name; taken over, so only once.

    A name is the one of `FileDescriptorName=`, or the descriptor's number (`3`) where the unit
    gives none; several sockets of one name are `NAME`, `NAME.1`, `NAME.2`. They are not inherited
    by child processes, and neither are the variables.

    Raises ValueError when the variables contradict themselves, OSError when a descriptor is no
    socket.
    """
    pid, count, names = (os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    os.environ.pop("LISTEN_PIDFDID", None)  # systemd 258: who is meant, once more
    if not pid or not count:
        return {}
    if not (pid.isdecimal() and count.isdecimal() and int(count) <= MAX_LISTEN_FDS):
        raise ValueError(f"LISTEN_PID={pid!r} LISTEN_FDS={count!r}: expected two small numbers")
    if int(pid) != os.getpid():  # meant for the parent
        return {}
    fds = range(LISTEN_FDS_START, LISTEN_FDS_START + int(count))
    given = names.split(":") if names else []
    if given and len(given) != len(fds):
        raise ValueError(f"LISTEN_FDNAMES has {len(given)} names for {len(fds)} descriptors")
    found: dict[str, socket.socket] = {}
    for index, fd in enumerate(fds):
        os.set_inheritable(fd, False)
        # "unknown" is what systemd says for a descriptor without a name.
        wanted = given[index] if given and given[index] not in ("", "unknown") else str(fd)
        name, again = wanted, 0
        while name in found:
            again += 1
            name = f"{wanted}.{again}"
        found[name] = socket.socket(fileno=fd)
    return found
