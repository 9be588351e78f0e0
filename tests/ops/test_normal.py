"""Noise by a counter: the generator's published answers, the law, and the same numbers from every implementation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aplysia.nets.noise import AbstractLaw, Drawn, Gaussian, Noise, NoiseSource, Rademacher, Sphere
from aplysia.ops import native, normal
from aplysia.ops.normal import fill_normal, fill_normals
from aplysia.ops.pairs import add_pairs
from aplysia.rng import seeded


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(count: int, seed: int = 0) -> Tensor:
    out = torch.empty(count)
    fill_normal(out, source(seed))
    return out


@pytest.mark.parametrize(
    ("key", "words"),
    [(0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8])],
)
def test_words_are_those_of_philox(key: int, words: list[int]) -> None:
    """The known answer that its authors publish for the counter 0."""
    assert [int(word) for word in normal._words(key, torch.tensor([0]))] == words


def test_words_are_those_of_the_generator_written_out() -> None:
    """Number by number, for a counter and a key that fill more than 32 bits."""
    key, counter = 0x0123456789ABCDEF, 0x5_0000_0007
    x, k = [counter & 0xFFFFFFFF, counter >> 32, 0, 0], [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(b >> 32) ^ x[1] ^ k[0], b % 2**32, (a >> 32) ^ x[3] ^ k[1], a % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    assert [int(word) for word in normal._words(key, torch.tensor([counter]))] == x


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000, (1 << 15) + 77, 3 << 15])
def test_the_kernel_draws_what_torchs_operations_draw(
    compiled: None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = drawn(count, 3)
    monkeypatch.setattr(normal, "library", lambda: None)
    plain = drawn(count, 3)
    torch.testing.assert_close(quick, plain, rtol=2e-6, atol=2e-6)
    assert len(quick.unique()) > 0.99 * count - 1


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_draw_the_same(compiled: None, threads: int) -> None:
    before, once = torch.get_num_threads(), drawn(10_001)
    torch.set_num_threads(threads)
    again = drawn(10_001)
    torch.set_num_threads(before)
    assert torch.equal(once, again)


def test_the_law_is_normal(compiled: None) -> None:
    """Moments and tails of two million, each within five standard errors; neighbours, and places 16 apart, know nothing of
    each other."""
    count = 2_000_000
    z = drawn(count).double()
    moments = {1: (0.0, 1.0), 2: (1.0, 2.0), 3: (0.0, 15.0), 4: (3.0, 96.0)}
    for power, (mean, variance) in moments.items():
        assert abs(float((z**power).mean()) - mean) < 5 * math.sqrt(variance / count), power
    for edge in (0.1, 1.0, 2.0, 3.0, 4.0):
        share = math.erfc(edge / math.sqrt(2))
        for side in (z > edge, z < -edge):
            assert abs(float(side.double().mean()) - share / 2) < 5 * math.sqrt(share / 2 / count), edge
    for apart in (1, 16, 32, 48, 64):
        assert abs(float((z[apart:] * z[:-apart]).mean())) < 5 / math.sqrt(count)
        assert abs(float(((z[apart:] ** 2 - 1) * (z[:-apart] ** 2 - 1)).mean())) < 5 * 2 / math.sqrt(count)
    assert 4.5 < float(z.abs().max()) < 5.9


def test_calls_and_seeds_differ_and_repeat(compiled: None) -> None:
    one, out = source(), torch.empty(2, 500)
    fill_normal(out[0], one)
    fill_normal(out[1], one)
    assert not torch.equal(out[0], out[1])
    assert torch.equal(out[0], drawn(500))
    assert abs(float(torch.corrcoef(torch.stack([drawn(50_000, 1), drawn(50_000, 2)]))[0, 1])) < 5 / math.sqrt(50_000)


SEEDS = [5, (1 << 62) + 12_345, (1 << 63) - 1]


@pytest.mark.parametrize("count", [1, 64, 1001])
@pytest.mark.parametrize("kernels", [True, False])
def test_many_draws_are_those_of_their_seeds(
    compiled: None, count: int, kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel makes torch's generator of each seed itself."""
    if not kernels:
        monkeypatch.setattr(normal, "library", lambda: None)
    out, alone = torch.empty(2, 3, count)
    fill_normals(out, SEEDS)
    for part, seed in zip(alone, SEEDS, strict=True):
        fill_normal(part, seeded("cpu", seed))
    assert torch.equal(out, alone)
    fill_normals(out[:0], [])


@pytest.mark.parametrize("law", [Gaussian(), Rademacher(), Sphere()], ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_laws_draw_all_as_one_by_one(compiled: None, law: AbstractLaw, dtype: torch.dtype) -> None:
    out, alone = torch.empty(2, 3, 4, 17, dtype=dtype)
    law.draw_all(out, SEEDS)
    for part, seed in zip(alone, SEEDS, strict=True):
        law.draw(part, seeded("cpu", seed))
    assert torch.equal(out, alone)
    assert len(out[:, 0, 0].unique(dim=0)) == 3 or isinstance(law, Rademacher)


def test_other_types_are_drawn_by_torch() -> None:
    out = torch.empty(100, dtype=torch.float64)
    fill_normal(out, source(4))
    assert torch.equal(out, torch.randn(100, dtype=torch.float64, generator=source(4)))
    strided = torch.zeros(50, 2)
    fill_normal(strided[:, 0], source(4))
    assert not strided[:, 1].any()
    assert strided[:, 0].all()


def test_pairs_are_added_in_one_pass(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to step by step, to the last place; and a gradient goes through."""
    signal, z = drawn(6 * 5 * 999, 1).view(6, 5, 999), drawn(3 * 5 * 999, 2).view(3, 5, 999)
    noise = Drawn(z, (0, 0, 1, 1, 2, 2), (1, -1) * 3)
    assert torch.equal(noise.all(), torch.stack([z, -z], 1).flatten(0, 1))
    leaf = signal.clone().requires_grad_()
    out = noise.onto(leaf, 0.3)
    assert torch.equal(out, add_pairs(signal, z, 0.3))  # type: ignore[arg-type]
    exact = signal.double() + torch.tensor(0.3).double() * noise.all().double()
    torch.testing.assert_close(out.double(), exact, rtol=2e-7, atol=1e-7)
    (gradient,) = torch.autograd.grad(out, leaf, signal)
    assert torch.equal(gradient, signal)
    monkeypatch.setattr(native, "compiled_kernels", lambda: False)
    assert add_pairs(signal, z, 0.3) is None
    torch.testing.assert_close(noise.onto(signal, 0.3), out.detach(), rtol=2e-7, atol=1e-7)


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_what_draws_meet_is_what_steps_meet(start: int, steps: int) -> None:
    """Σ_t x[t]·z[t], from the draws and from all steps; chunks may begin and end inside a pair."""
    noise = NoiseSource(Noise(alpha=0.2), seed=1, step=2).drawn("dense1", start, steps, torch.zeros(4, 7))
    x, z = drawn(steps * 4 * 7, 3).view(steps, 4, 7), noise.all()
    assert len(noise) == len(z) == steps
    assert noise.paired == (start == 0 and steps == 2)
    torch.testing.assert_close((noise.gathered(x) * noise.draws).sum(0), (x * z).sum(0))
    for t in range(steps):
        assert torch.equal(noise.step(t).all()[0], z[t])
