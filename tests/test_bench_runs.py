"""The bench itself: that it runs through and gives figures. None of them is judged here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "bench" / "run.py"


@pytest.mark.skipif(not shutil.which("cc"), reason="the load generator is written in C")
def test_every_measurement_of_the_bench_gives_figures_and_no_bad_answer(tmp_path):
    few = ["--rounds", "1", "--seconds", "1", "--loads", "c50p16", "--connections", "100", "--servers", "core"]
    figures = {}
    for what in ([], ["fairness", "churn", "memory"]):
        out = tmp_path / "figures.json"
        subprocess.run([sys.executable, RUN, *what, *few, "--json", out], check=True, timeout=60)
        figures |= json.loads(out.read_text())
    (pair,) = figures["throughput"]
    assert (pair["ratio"][0] > 0, pair["bad"]) == (True, 0)
    (fair,) = figures["fairness"]
    assert (fair["p99_us"] > 0, fair["errors"]) == (True, 0)
    (churn,) = figures["churn"]
    assert (churn["per_cpu_s"] > 0, churn["failed"]) == (True, 0)
    (memory,) = figures["memory"]
    assert (memory["with_kib"] > memory["before_kib"], memory["answered"]) == (True, 100)
