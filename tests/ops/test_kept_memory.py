"""Memory that is kept is not asked of the system again: counted as page faults, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, torch
from aplysia.ops.memory import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        blocks = [torch.ones(12_000_000) for _ in range(3)]  # 48 MB each, beyond what glibc ever keeps by itself
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024

torch.set_num_threads(1)
faults()
told = {"before": faults(), "resident_before": resident()}
with kept_memory() as kept:
    told["kept"] = kept
    with kept_memory():
        faults()
    told["inside"], told["resident_inside"] = faults(), resident()
told["resident_after"] = resident()
print(json.dumps(told))
"""
PAGES = 4 * 3 * 48_000_000 // os.sysconf("SC_PAGE_SIZE")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is Linux's")


def run(**environment: str) -> dict[str, int]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=clean | environment
    )
    return json.loads(done.stdout)


def test_pages_serve_again_and_go_back_in_the_end() -> None:
    told = run()
    if not told["kept"]:
        pytest.skip("no glibc here")
    assert told["before"] > 0.9 * PAGES
    assert told["inside"] < 0.01 * PAGES
    assert told["resident_inside"] - told["resident_before"] > 100_000_000
    assert told["resident_after"] - told["resident_before"] < 20_000_000


def test_the_users_own_settings_of_the_allocator_stand() -> None:
    told = run(MALLOC_ARENA_MAX="1")
    assert not told["kept"]
    assert told["inside"] > 0.9 * PAGES
