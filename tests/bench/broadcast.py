"""The floor of a fan-out: each line that comes is sent to everybody, by bare gevent; nothing else.

python tests/bench/broadcast.py PORT
"""

import os
import sys

import gevent.socket
from gevent.server import StreamServer

connected = {}


def serve(sock, _):
    sock.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
    fd = sock.fileno()
    connected[fd] = sock
    rest = b""
    try:
        while data := sock.recv(16384):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                frame = line + b"\n"
                for other in list(connected):
                    os.write(other, frame)
    except OSError:
        pass
    finally:
        connected.pop(fd, None)


StreamServer(("127.0.0.1", int(sys.argv[1])), serve, backlog=4096).serve_forever()
