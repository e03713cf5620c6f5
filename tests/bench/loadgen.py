"""The load generator: `loadgen.c`, compiled into the temporary folder when it is first needed.

    python tests/bench/loadgen.py --port 7420 --method system.echo -c 50 -d 16 --seconds 3

`-c` connections, `-d` requests in flight on each (in batches; `--window`: sliding), `--seconds`, `--warmup`,
`--requests` (at most), `--param-bytes` (the length of `params.text`), `--params JSON`, `--payload LINE`,
`--mode churn` (connect, one request, close) or `hold` (one request each, then idle), `--cpu` (pin to a core).
Prints one JSON object. `results`, `errors` and `other` count replies by content, warm-up included;
`id_mismatch` counts replies whose id was not the next one expected. At a `loadgen_cpu` near 1 the generator was the
limit.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("loadgen.c")


def binary() -> str:
    """The path of the compiled generator. Raises FileNotFoundError without a `cc`."""
    tag = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    path = Path(tempfile.gettempdir()) / f"tidegate-loadgen-{os.getuid()}-{tag}"
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O2", "-Wall", "-o", str(fresh), str(SOURCE)], check=True)
        fresh.replace(path)
    return str(path)


def start(*options: object) -> subprocess.Popen[str]:
    """A generator under way; `result` waits for it."""
    return subprocess.Popen([binary(), *map(str, options)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(generator: subprocess.Popen[str]) -> dict[str, Any]:
    """What it printed. Raises RuntimeError with its message when it failed."""
    out, err = generator.communicate(timeout=200)
    if generator.returncode:
        raise RuntimeError(err.strip() or f"loadgen ended with {generator.returncode}")
    return dict(json.loads(out))


def run(*options: object) -> dict[str, Any]:
    """Run it to its end."""
    return result(start(*options))


if __name__ == "__main__":
    os.execv(binary(), [binary(), *sys.argv[1:]])
