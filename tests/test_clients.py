"""Clients that nobody here wrote: JSON-RPC libraries in two languages, and the tools one types with by hand."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest
import trustme

NPM = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tidegate-tests" / "npm"
PING = b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}\n'
PONG = b'{"jsonrpc":"2.0","id":1,"result":"pong"}\n'
SOURCE = """
from tidegate import command
from tidegate.faults import ResourceNotFound

@command("shop.add")
def add(a: int, b: int) -> int:
    return a + b

@command("shop.find")
def find(name: str) -> None:
    raise ResourceNotFound("No such hat", name=name)
"""

JAYSON = """
const jayson = require(process.argv[2]);
const client = jayson.client.tcp({host: process.argv[3], port: Number(process.argv[4]), delimiter: '\\n'});
const call = (method, params) => new Promise((resolve) => client.request(method, params, (error, reply) =>
  resolve(error ? {failed: String(error)} : reply)));
const batch = (requests) => new Promise((resolve) => client.request(requests, (error, errors, successes) =>
  resolve(error ? {failed: String(error)} : {errors, successes})));
(async () => {
  console.log(JSON.stringify([
    await call('shop.add', [1, 2]),
    await call('shop.add', {a: 3, b: 4}),
    await call('shop.find', {name: 'x'}),
    await call('no.such', []),
    await batch([['shop.add', [5, 6]], ['no.such', []]].map(([m, p]) => client.request(m, p, undefined, false))),
  ]));
})();
"""


@pytest.fixture
def server(served):
    return served(source=SOURCE)


@pytest.mark.parametrize("version", ["jayson4", "jayson5"])
def test_jayson_calls_commands_and_gets_results_and_faults(server, need, version, tmp_path):
    node = need("node")
    folder = NPM / "node_modules" / version
    need(version, folder.is_dir(), f"{version} is not in {NPM}; .ci/run installs it")
    (tmp_path / "client.js").write_text(JAYSON)
    done = subprocess.run(
        [node, tmp_path / "client.js", folder, server.host, str(server.port)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    by_position, by_name, fault, unknown, batch = json.loads(done.stdout)
    assert (by_position["result"], by_name["result"]) == (3, 7)
    assert (fault["error"]["code"], fault["error"]["data"]["name"]) == (1501, "x")
    assert unknown["error"]["code"] == -32601
    assert [one["result"] for one in batch["successes"]] == [11]
    assert [one["error"]["code"] for one in batch["errors"]] == [-32601]


def test_aiorpcx_calls_commands_and_gets_results_and_faults(server):
    aiorpcx = pytest.importorskip("aiorpcx")

    async def talk() -> list[object]:
        async with aiorpcx.connect_rs(server.host, server.port) as session:
            results: list[object] = [await session.send_request("shop.add", (1, 2))]
            results.append(await session.send_request("shop.add", {"a": 3, "b": 4}))
            with pytest.raises(aiorpcx.RPCError) as fault:
                await session.send_request("shop.find", ["x"])
            results.append((fault.value.code, fault.value.message))
            async with session.send_batch() as batch:
                batch.add_request("shop.add", [5, 6])
                batch.add_notification("system.ping")
                batch.add_request("shop.add", [7, 8])
            results.append(list(batch.results))
            results += await asyncio.gather(*(session.send_request("shop.add", (n, n)) for n in range(20)))
            return results

    results = asyncio.run(talk())
    assert results[:4] == [3, 7, (1501, "No such hat"), [11, 15]]
    assert results[4:] == [2 * n for n in range(20)]


def shell(command: list[object], data: bytes = PING) -> bytes:
    return subprocess.run([str(part) for part in command], input=data, capture_output=True, timeout=30).stdout


def test_nc(server, need):
    assert shell([need("nc"), "-N", server.host, server.port]) == PONG
    assert shell([need("nc"), "-N", server.host, server.port], PING.strip()) == PONG  # without a last LF


def test_socat(server, need):
    assert shell([need("socat"), "-", f"TCP:{server.host}:{server.port}"]) == PONG
    assert shell([need("socat"), "-", f"UNIX-CONNECT:{server.data}/admin.sock"]) == PONG


def test_telnet(server, need):
    telnet = subprocess.Popen(
        [need("telnet"), server.host, str(server.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    telnet.stdin.write(PING)
    telnet.stdin.flush()
    lines = [telnet.stdout.readline() for _ in range(4)]
    telnet.kill()
    telnet.communicate()
    assert lines[-1].strip() == PONG.strip()


def test_openssl_s_client(served, need, tmp_path):
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "crt")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    ca.cert_pem.write_to_path(tmp_path / "ca")
    server = served(f"[[listen]]\naddress = '127.0.0.1:0'\ntls_cert = '{tmp_path}/crt'\ntls_key = '{tmp_path}/key'\n")
    client = subprocess.Popen(
        [
            *(need("openssl"), "s_client", "-quiet", "-verify_return_error", "-CAfile", str(tmp_path / "ca")),
            *("-connect", server.addresses[0]),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    client.stdin.write(PING)
    client.stdin.flush()
    assert client.stdout.readline() == PONG
    client.kill()
    client.communicate()
