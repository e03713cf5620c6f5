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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_api_is_what_its_document_says(site, need, installed, tmp_path):
    need("schemathesis", ok=find_spec("schemathesis") is not None, why="schemathesis is missing")
    web = site(
        plugins=installed("errors", "monitoring", "security", "validation", "transactions"),
        admin='failures = "100000/second"\nmax_connections = 1000\n',
    )
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(web.get("/api/v1/openapi.json").json))
    found = subprocess.run(
        [
            *(Path(sys.executable).parent / "schemathesis", "run", document, "--url", f"{web.base}/api/v1"),
            *("--header", f"Authorization: Bearer {web.token}", "--checks", ",".join(CHECKS)),
            *("--max-examples", os.environ.get("TG_EXAMPLES", "15"), "--phases", "examples,coverage,fuzzing"),
            *("--seed", "1", "--workers", "1", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert found.returncode == 0, found.stdout[-12000:] + found.stderr[-2000:]
    with web.server.client() as client:
        assert client.call("system.ping") == "pong"
