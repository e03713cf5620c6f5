"""schemathesis runs the OpenAPI document against the server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

#: Left out: `positive_data_acceptance`, since a name that fits the schema may be no plugin's alert and no open
#: connection; `use_after_free` and the like want links, of which there are none.
CHECKS = [
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance"),
    *("response_schema_conformance", "negative_data_rejection", "unsupported_method", "ignored_auth"),
]


@pytest.fixture
def schemathesis(need) -> None:
    need("schemathesis", ok=find_spec("schemathesis") is not None, why="schemathesis is missing")


def keeps_to_its_document(site, installed, folder, phases: str) -> None:
    """Run these phases of schemathesis against a server with most plugins. They are the same each time: what is made
    at random is made from one seed."""
    web = site(
        plugins=installed("errors", "monitoring", "security", "validation", "transactions"),
        admin='failures = "100000/second"\nmax_connections = 1000\n',
    )
    document = folder / "openapi.json"
    document.write_text(json.dumps(web.get("/api/v1/openapi.json").json))
    # One worker: in threads Python 3.11's ast fails now and then ("recursion depth mismatch").
    found = subprocess.run(
        [
            *(Path(sys.executable).parent / "schemathesis", "run", document, "--url", f"{web.base}/api/v1"),
            *("--header", f"Authorization: Bearer {web.token}", "--checks", ",".join(CHECKS), "--phases", phases),
            *("--generation-deterministic", "--max-examples", os.environ.get("TG_EXAMPLES", "15")),
            *("--workers", "1", "--request-timeout", "60", "--suppress-health-check", "all", "--no-color"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1500 if "fuzzing" in phases else 550,
    )
    assert found.returncode == 0, found.stdout[-12000:] + found.stderr[-2000:]
    with web.server.client() as client:
        assert client.call("system.ping") == "pong"


@pytest.mark.timeout(600)  # 15 s where nothing else runs, 4 minutes at a load of 20
def test_the_api_is_what_its_document_says(site, schemathesis, installed, tmp_path):
    """Each parameter at its bounds, beyond them, of other types, and left out: some 1,600 requests."""
    keeps_to_its_document(site, installed, tmp_path, "examples,coverage")


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_the_api_is_what_its_document_says_whatever_is_sent(site, schemathesis, installed, tmp_path):
    keeps_to_its_document(site, installed, tmp_path, "fuzzing")
