"""Compiled kernels give the numbers of eager ones; where they cannot be had, that is said and changes nothing.

Bit for bit, in both directions, wherever only sums, products and comparisons are involved: the whole forward pass, and the
backward pass of every surrogate but `Sigmoid`. There the exponential of a vector lane and that of a scalar (which the two
use for different elements at the end of an array) may differ in the last bit.

Dynamics that are ours go through our own kernels, those with a part of a user's through torch's compiler. A cold compile of
that takes seconds, so the grid is a handful of pairs that together meet every surrogate, both resets, attached and detached,
and blocks of 1, 3, 6 and 8 steps (11 = 8 + 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from helpers import assert_rate

from aplysia.nets.zoo import build
from aplysia.neurons.lif import LIF
from aplysia.ops import backend, scan
from aplysia.ops.backend import CompilerMissingWarning, compiled_kernels, compiler_problem, kernels
from aplysia.ops.normal import fill_normal
from aplysia.ops.scan import AbstractReset, Dynamics, HardReset, SoftReset, lif_scan, lif_scan_sloped
from aplysia.ops.surrogate import AbstractSurrogate, Arctan, Rectangle, Sigmoid, Triangle

needs_compiler = pytest.mark.skipif(
    compiler_problem() is not None, reason=f"kernels cannot be compiled: {compiler_problem()}"
)

# torch.compile itself warns, depending on version, about things that are none of ours.
quiet_compile = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:.*:UserWarning:torch", "ignore::FutureWarning"
)


def numbers(
    d: Dynamics, steps: int, batch: int, *, through_time: bool
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Spikes and membrane, and the gradients by everything."""
    source = torch.Generator().manual_seed(steps * 100 + batch)
    currents = (torch.randn(steps, batch, 33, generator=source) + 0.5).requires_grad_()
    v = (0.3 * torch.randn(batch, 33, generator=source)).requires_grad_()
    spikes, last = lif_scan(d, currents, v, through_time=through_time)
    assert_rate(spikes.detach())
    by_s, by_v = torch.randn(spikes.shape, generator=source), torch.randn(last.shape, generator=source)
    if through_time:
        backward = torch.autograd.grad((spikes, last), (currents, v), (by_s, by_v))
    else:
        backward = torch.autograd.grad(spikes, (currents,), by_s)
    return [spikes.detach(), last.detach()], list(backward)


def of_a_user(surrogate: AbstractSurrogate) -> AbstractSurrogate:
    """The same in a class that no kernel of ours knows."""
    kind = dataclass(frozen=True, kw_only=True)(type("Own", (type(surrogate),), {}))
    return kind(**vars(surrogate))


@needs_compiler
@quiet_compile
@pytest.mark.parametrize("whose", ["ours", "a user's"])
@pytest.mark.parametrize(
    ("surrogate", "reset", "detached", "steps", "through_time"),
    [
        (Sigmoid(), SoftReset(), True, 6, True),
        (Arctan(), HardReset(value=0.1), False, 1, True),
        (Triangle(width=2.0), SoftReset(amount=0.4), False, 11, True),
        (Rectangle(width=2.5), HardReset(), True, 1, True),
        (Arctan(alpha=1.5), HardReset(), True, 6, False),
    ],
    ids=lambda value: repr(value),
)
def test_compiled_equals_eager(
    surrogate: AbstractSurrogate, reset: AbstractReset, detached: bool, steps: int, through_time: bool, whose: str
) -> None:
    """Forward and backward, and for batches of other sizes from the same kernel."""
    d = Dynamics(0.7, 0.8, surrogate if whose == "ours" else of_a_user(surrogate), reset, detached)
    assert (scan._told(d) is not None) == (whose == "ours")
    for batch in (4, 3, 64, 1):
        forward, backward = numbers(d, steps, batch, through_time=through_time)
        with kernels(compiled=True) as really:
            assert really
            compiled_forward, compiled_backward = numbers(d, steps, batch, through_time=through_time)
        for a, b in zip(forward, compiled_forward, strict=True):
            assert torch.equal(a, b)
        for a, b in zip(backward, compiled_backward, strict=True):
            assert a.abs().max() > 0
            if isinstance(surrogate, Sigmoid):
                torch.testing.assert_close(a, b, rtol=1e-6, atol=3e-7)
            else:
                assert torch.equal(a, b)


@needs_compiler
@pytest.mark.parametrize("through_time", [False, True])
@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("reset", [SoftReset(), SoftReset(amount=0.3), HardReset(), HardReset(value=-0.2)], ids=repr)
@pytest.mark.parametrize(
    "surrogate", [Sigmoid(slope=3.0), Triangle(width=0.7), Arctan(alpha=1.7), Rectangle(width=1.3)], ids=repr
)
def test_our_kernels_give_the_numbers_of_torchs_operations(
    surrogate: AbstractSurrogate, reset: AbstractReset, detached: bool, through_time: bool
) -> None:
    """Of every pair that they know, more units than a block of theirs has, a current that is held, and values that are none."""
    d = Dynamics(0.7, 0.8, surrogate, reset, detached)
    source = torch.Generator().manual_seed(0)
    currents, held = torch.randn(5, 1100, generator=source) + 0.5, torch.randn(1100, generator=source) + 0.5
    currents[2, 5], currents[1, 6], currents[3, 7] = torch.nan, 1e30, -1e30
    for given in (currents, held.expand(5, 1100)):
        made = []
        for compiled in (False, True):
            with kernels(compiled=compiled):
                x, v = given.clone() if given is currents else given, torch.zeros(1100)
                x.requires_grad_()
                out = lif_scan(d, x, v, through_time=through_time)
                weights = torch.linspace(-1, 1, 5500).view(5, 1100)
                made.append((*(o.detach() for o in out), torch.autograd.grad(out[0], x, weights)[0]))
        assert_rate(made[0][0])
        exact = not isinstance(surrogate, Sigmoid)
        for place, (a, b) in enumerate(zip(*made, strict=True)):
            close = {"rtol": 0, "atol": 0} if exact or place < 2 else {"rtol": 1e-6, "atol": 3e-7}
            torch.testing.assert_close(b, a, equal_nan=True, **close)


@needs_compiler
@pytest.mark.parametrize("default", ["dtype", "device"])
def test_the_users_defaults_are_none_of_the_kernels_business(default: str) -> None:
    d, currents = Dynamics(0.61, 0.77, Triangle(width=1.9), SoftReset(), True), torch.randn(4, 50) + 0.5
    v, drawn = torch.zeros(50), torch.empty(100)
    want, trace = lif_scan(d, currents, v, through_time=False), scan.decaying_trace(torch.ones(4, 1 << 13), None, 0.9)
    before = torch.get_default_dtype()
    try:
        if default == "dtype":
            torch.set_default_dtype(torch.float64)
        else:
            torch.set_default_device("meta")
        with kernels(compiled=True):
            got = lif_scan(d, currents, v, through_time=False)
            fill_normal(drawn, torch.Generator(device="cpu").manual_seed(0))
            again = scan.decaying_trace(torch.ones(4, 1 << 13, dtype=torch.float32, device="cpu"), None, 0.9)
    finally:
        torch.set_default_dtype(before)
        torch.set_default_device(None)
    assert_rate(want[0])
    assert all(torch.equal(a, b) for a, b in zip((*want, *trace), (*got, *again), strict=True))
    plain = torch.empty(100)
    fill_normal(plain, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn, plain, rtol=2e-6, atol=2e-6)


def test_eager_kernels_take_parts_that_cannot_be_hashed() -> None:
    @dataclass(kw_only=True)
    class Own(AbstractSurrogate):
        height: float = 0.5

        def derivative(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, self.height)

    with pytest.raises(TypeError):
        hash(Own())
    out = numbers(Dynamics(0.7, 0.8, Own(), SoftReset(), True), 3, 4, through_time=False)
    assert out[1][0].abs().max() > 0


@needs_compiler
@quiet_compile
def test_a_process_may_use_any_number_of_kernels() -> None:
    """The compiler allows 8 variants of one piece of code; every neuron and chunk length is a piece of its own."""
    currents, v = torch.randn(2, 40) + 0.5, torch.zeros(40)
    for n in range(12):
        d = Dynamics(0.5, 0.5 + 0.05 * n, of_a_user(Triangle()), SoftReset(), True)
        want = lif_scan(d, currents, v, through_time=False)
        assert_rate(want[0])
        with kernels(compiled=True):
            got = lif_scan(d, currents, v, through_time=False)
        assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))


@needs_compiler
@quiet_compile
def test_a_net_trains_to_the_same_weights_compiled() -> None:
    def trained() -> list[torch.Tensor]:
        net = build("F20-F4", (12,), neuron=LIF(surrogate=Triangle()), seed=1)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
        source = torch.Generator().manual_seed(0)
        for _ in range(3):
            x = torch.rand(6, 5, 12, generator=source) * 2
            out = net(x)
            assert_rate(out.outs[0].detach())
            torch.nn.functional.cross_entropy(out.outs[-1].mean(0), torch.arange(5) % 4).backward()
            optimiser.step()
            optimiser.zero_grad()
        return [p.detach().clone() for p in net.parameters()]

    eager = trained()
    with kernels(compiled=True):
        compiled = trained()
    assert all(torch.equal(a, b) for a, b in zip(eager, compiled, strict=True))


def _hide_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")


def test_without_a_compiler_kernels_run_eager_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    d = Dynamics(0.7, 0.8, Sigmoid(slope=1.25), SoftReset(), True)
    want = numbers(d, 6, 4, through_time=True)
    _hide_compilers(monkeypatch)
    with pytest.warns(CompilerMissingWarning, match=r"no C\+\+ compiler") as caught:  # noqa: PT031, SIM117
        with kernels(compiled=True) as really:
            assert really is False
            assert not compiled_kernels()
            got = numbers(d, 6, 4, through_time=True)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert all(torch.equal(a, b) for n in (0, 1) for a, b in zip(want[n], got[n], strict=True))


def test_a_compiler_named_in_the_environment_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide_compilers(monkeypatch)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in (compiler_problem() or "")
    monkeypatch.setattr(backend.shutil, "which", lambda name: f"/somewhere/{name}")
    monkeypatch.setattr(backend, "_compiles", lambda program: program == "/somewhere/no-such-compiler")
    assert compiler_problem() is None


def test_a_program_that_is_no_compiler_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CXX", "false")
    assert compiler_problem() == "no C++ compiler found (looked for false)"


def test_the_switch_is_put_back_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "compiler_problem", lambda: None)
    assert not compiled_kernels()
    with kernels(compiled=True):
        assert compiled_kernels()
        with kernels(compiled=False) as really:
            assert really is False
            assert not compiled_kernels()
        assert compiled_kernels()
    with pytest.raises(ZeroDivisionError), kernels(compiled=True):
        raise ZeroDivisionError
    assert not compiled_kernels()


@needs_compiler
def test_the_sigmoids_exponential_holds_to_its_ends() -> None:
    """Against float64: two units of the last place and a few roundings in between, nothing where that vanishes, and no number
    where there is none."""
    slope = 4.0
    x = torch.cat([torch.linspace(-30.0, 30.0, 20_001), torch.tensor([1e10, -1e10, torch.inf, -torch.inf])])
    currents = torch.cat([x, torch.tensor([torch.nan])]).unsqueeze(0)
    d = Dynamics(0.0, 1.0, Sigmoid(slope=slope), HardReset(), True)
    with kernels(compiled=True):
        slopes = lif_scan_sloped(d, currents, torch.zeros(currents.shape[1]))[2]
    assert bool(slopes[:, -1].isnan().all())
    u = (currents[:, :-1] - 1.0).double()
    y = torch.sigmoid(slope * u)
    exact = slope * y * torch.sigmoid(-slope * u)
    # 1 − y is taken from a rounded y.
    error = (slopes[:, :-1] - exact).abs()
    assert bool((error <= 12 * torch.finfo(torch.float32).eps * slope * y + 1e-37).all())
    assert float(slopes[:, :-1].max()) == pytest.approx(slope / 4, rel=1e-4)


@needs_compiler
@pytest.mark.parametrize("shape", [(3, 5, 300), (2, 4, 3, 20, 20), (1, 1, 1)])
def test_a_scan_with_slopes_gives_its_shapes_and_counts(shape: tuple[int, ...]) -> None:
    d, currents = Dynamics(0.7, 0.8, Triangle(width=0.7), SoftReset(), True), torch.randn(shape) + 0.5
    for v in (None, torch.randn(shape[1:]), torch.zeros(()).expand(shape[1:])):
        with kernels(compiled=True):
            spikes, last, slopes, fired = lif_scan_sloped(d, currents, v)
        want = lif_scan_sloped(d, currents, v)
        assert want[3] is None
        for got, other in zip((spikes, last, slopes), want, strict=False):
            assert torch.equal(got, other)
        assert fired is not None
        assert float(fired) == float(spikes.sum())
