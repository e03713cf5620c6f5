"""A peer: aiorpcX answering `system.echo`, one JSON-RPC message a line.

python tests/bench/aiorpcx_server.py PORT [--uvloop]
"""

import asyncio
import sys

import aiorpcx


class Session(aiorpcx.RPCSession):
    cost_hard_limit = 0  # without its own throttle, which would slow and then close the connection
    processing_timeout = 30.0

    async def handle_request(self, request):
        return await aiorpcx.handler_invocation(HANDLERS.get(request.method), request)()


async def echo(text):
    return text


HANDLERS = {"system.echo": echo}


async def main():
    await aiorpcx.serve_rs(Session, "127.0.0.1", int(sys.argv[1]), reuse_address=True, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if "--uvloop" in sys.argv:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
