"""The floor: the fastest loop that gevent allows, answering `system.echo` and nothing else.

    python tests/bench/floor.py PORT

One greenlet a connection, an own read watcher, one read and one write a turn, msgspec, a dict of functions.
No limits, no deadline, no checks, no clock, no pushes, no strictness about lines: that is what a server adds.
"""

import os
import socket
import sys

import gevent.socket
import msgspec
from gevent.hub import get_hub
from gevent.server import StreamServer
from greenlet import getcurrent, greenlet

MAX_LINE_BYTES = 65536
COMMANDS = {"system.echo": lambda params: params["text"]}
PARSE_ERROR = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}\n'


class Request(msgspec.Struct, gc=False):
    method: str
    jsonrpc: str = ""
    id: int | str | None = None
    params: dict | list | None = None


class Response(msgspec.Struct, gc=False):
    jsonrpc: str
    id: int | str | None
    result: object


decoder, encoder = msgspec.json.Decoder(Request), msgspec.json.Encoder()
decode, decode_lines, encode, encode_lines = decoder.decode, decoder.decode_lines, encoder.encode, encoder.encode_lines


def call(request):
    if (function := COMMANDS.get(request.method)) is None:
        error = {"code": -32601, "message": "Method not found"}
        return {"jsonrpc": "2.0", "id": request.id, "error": error}
    return Response("2.0", request.id, function(request.params))


def answer(line):
    try:
        return encode(call(decode(line))) + b"\n"
    except msgspec.MsgspecError:
        return PARSE_ERROR


def answer_lines(lines):
    try:
        requests = decode_lines(lines)
    except msgspec.MsgspecError:  # nothing was called yet: line by line
        return b"".join([answer(line) for line in lines.split(b"\n") if line])
    return encode_lines([call(request) for request in requests])


def serve(sock, _, read=os.read, write=os.write, switch=greenlet.switch):
    """One connection. The watcher is active only while the greenlet waits."""
    hub, fd = get_hub(), sock.fileno()
    watcher = hub.loop.io(fd, 1)
    start, stop, me = watcher.start, watcher.stop, getcurrent().switch
    rest = b""
    try:
        while True:
            start(me)
            try:
                switch(hub)
            finally:
                stop()
            try:
                data = read(fd, 16384)
            except BlockingIOError:
                continue
            if not data:
                return
            if rest:
                data = rest + data
            end = data.rfind(b"\n") + 1
            data, rest = (data, b"") if end == len(data) else (data[:end], data[end:])
            if len(rest) > MAX_LINE_BYTES:
                return
            if not data:
                continue
            out = answer(data) if data.find(b"\n") + 1 == end else answer_lines(data)
            try:
                sent = write(fd, out)
            except BlockingIOError:
                sent = 0
            if sent != len(out):
                sock.sendall(memoryview(out)[sent:])
    except ConnectionError:
        pass
    finally:
        watcher.stop()
        watcher.close()


def listener(port):
    sock = gevent.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it on Linux
    sock.bind(("127.0.0.1", port))
    sock.listen(4096)
    sock.setblocking(False)
    return sock


if __name__ == "__main__":
    StreamServer(listener(int(sys.argv[1])), serve).serve_forever()
