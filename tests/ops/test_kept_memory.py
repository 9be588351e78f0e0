"""Memory that is kept is not asked of the system again: counted as page faults, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from aplysia.ops.backend import compiler

SCRIPT = """
import json, resource, sys, torch
from aplysia.ops.backend import kernels
from aplysia.ops.memory import kept_memory
from aplysia.ops.native import allocator

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
with kernels(compiled=sys.argv[1] == "own"), kept_memory() as kept:
    told["kept"], told["own"] = kept, allocator() is not None
    with kept_memory():
        faults()
    told["inside"], told["resident_inside"] = faults(), resident()
    outlives = torch.arange(3_000_000)
assert int(outlives.sum()) == 3_000_000 * 2_999_999 // 2
del outlives
told["resident_after"] = resident()
print(json.dumps(told))
"""
PAGES = 4 * 3 * 48_000_000 // os.sysconf("SC_PAGE_SIZE")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is Linux's")


def run(whose: str, **environment: str) -> dict[str, int]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, whose], capture_output=True, text=True, check=True, env=clean | environment
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("whose", ["own", "the system's"])
def test_pages_serve_again_and_go_back_in_the_end(whose: str) -> None:
    if whose == "own" and compiler() is None:
        pytest.skip("no C++ compiler here")
    told = run(whose)
    if not told["kept"]:
        pytest.skip("no glibc here")
    assert told["own"] == (whose == "own")
    assert told["before"] > 0.9 * PAGES
    assert told["inside"] < 0.01 * PAGES
    assert told["resident_inside"] - told["resident_before"] > 100_000_000
    assert told["resident_after"] - told["resident_before"] < 30_000_000


@pytest.mark.parametrize("whose", ["own", "the system's"])
def test_the_users_own_settings_of_the_allocator_stand(whose: str) -> None:
    told = run(whose, MALLOC_ARENA_MAX="1")
    assert not told["kept"]
    assert told["inside"] > 0.9 * PAGES


MIX = """
import random, threading, torch
from aplysia.ops.backend import kernels
from aplysia.ops.memory import kept_memory

def resident():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024

def work(seed, rounds, most):
    # Tensors of all sizes that come and go; each is told by its number, so that two that overlapped would show.
    source, living, used = random.Random(seed), [], 0
    for number in range(rounds):
        size = source.choice([0, 3, 5_000, 300_000, 500_000, 1_000_000, 4_000_000])
        while used + size > most or (living and source.random() < 0.3):
            tensor, told = living.pop(source.randrange(len(living)))
            assert bool((tensor == told).all()), "a tensor was written over"
            used -= tensor.numel()
        if source.random() < 0.2 and living:
            tensor, told = living[-1]
            storage = tensor.untyped_storage()
            assert storage.data_ptr() % 64 == 0 or not tensor.numel()
        told = seed * 10_000 + number
        living.append((torch.full((size,), float(told)), told))
        used += size
    assert all(bool((tensor == told).all()) for tensor, told in living)

torch.set_num_threads(1)
with kernels(compiled=True), kept_memory():
    work(0, 300, 20_000_000)
    threads = [threading.Thread(target=work, args=(seed, 200, 5_000_000)) for seed in (1, 2, 3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    grown = torch.zeros(10)
    grown.resize_(2_000_000).fill_(1.0)
    assert float(grown.sum()) == 2_000_000
    shared = torch.ones(400_000).share_memory_()
    assert float(shared.sum()) == 400_000
assert float(grown.sum()) == 2_000_000
"""

STEPS = """
import torch
from aplysia.ops.backend import kernels
from aplysia.ops.memory import kept_memory

def resident():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024

small = []

def step():
    # Layers take tensors one after the other, and give them back in the opposite order; small ones stay.
    taken = []
    for size in (4_000_000, 2_000_000, 1_000_000):
        for _ in range(4):
            taken.append(torch.ones(size))
            small.append(torch.ones(2_000))
    while taken:
        taken.pop()

torch.set_num_threads(1)
with kernels(compiled=True), kept_memory():
    torch.ones(300_000).sum()
    before = resident()
    for _ in range(5):
        step()
    print((resident() - before - 4 * 2_000 * len(small)) / (4 * 4 * 7_000_000))
"""


def _told(script: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=clean)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler here")
def test_tensors_never_overlap() -> None:
    _told(MIX)


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler here")
def test_no_more_is_held_than_is_used_at_a_time() -> None:
    assert 0.9 < float(_told(STEPS)) < 1.1


TOO_MUCH = """
import os, torch
from aplysia.ops.backend import kernels
from aplysia.ops.memory import kept_memory

size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # in numbers of four bytes: four times what there is

def asked():
    try:
        torch.empty(size)
    except RuntimeError as problem:
        return str(problem)
    return "granted"

plain = asked()
with kernels(compiled=True), kept_memory():
    print(plain == asked(), plain)
    print(float(torch.ones(2_000_000).sum()))
"""


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler here")
def test_more_than_there_is_is_refused_in_torchs_words() -> None:
    told = _told(TOO_MUCH)
    if told.startswith("True granted"):
        pytest.skip("this system grants any size")
    assert told.startswith("True")
    assert "can't allocate memory" in told
    assert told.endswith("2000000.0\n")
