"""A data folder that can't be used is refused in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest


def attempt(folder, data) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tidegate", "serve", "--only", "none", "--listen", "127.0.0.1:0", "--data", str(data)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "data",
    ["/proc/here", "/dev/null/here", "taken"],
    ids=["nothing can be made there", "below a file", "something else is called like its socket"],
)
def test_a_data_folder_that_can_not_be_used_is_refused_with_the_reason(tmp_path, data):
    (tmp_path / "taken" / "admin.sock").mkdir(parents=True)
    done = attempt(tmp_path, data)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert data in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
