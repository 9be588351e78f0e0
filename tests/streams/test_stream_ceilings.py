"""Ceilings of the gradient lines: nothing clips where they say so, quantiles are followed, and no scale biases a gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from stream_parts import LIMIT, assert_streams_alive, gap, learnt, rates, repeated, stream_net
from torch import Tensor

from aplysia.credit.spatial.direct_feedback import DirectFeedback
from aplysia.credit.spatial.feedback_alignment import FeedbackAlignment
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.coincidence import Coincidence, Constant, Tracked
from aplysia.errors import RecipeError
from aplysia.nets.stream import Load
from aplysia.neurons.stream_memory import BlockMean
from aplysia.ops.stream import Bits, Counts, Draws
from aplysia.types import Held


def tensor(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@contextmanager
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Tensor, float]]]:
    """What the gradient lines get: |g| of all entries, and Γ, from the last hidden layer down."""
    seen: list[tuple[Tensor, float]] = []
    original = Draws.rails

    def watch(self: Draws, g: Tensor, ceiling: Tensor, gate: Tensor) -> Tensor:
        seen.append((g.abs().flatten(), float(ceiling)))
        return original(self, g, ceiling, gate)

    with monkeypatch.context() as patch:
        patch.setattr(Draws, "rails", watch)
        yield seen


@pytest.mark.parametrize("rule", [Symmetric(), FeedbackAlignment()], ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("weights", [0.3, 1.0, 4.0])
def test_the_last_hidden_layer_never_clips_and_its_ceiling_is_no_larger_than_it_must_be(
    weights: float, rule: Symmetric | FeedbackAlignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Γ is the power of two at or above 2·max|B|; two gates of e are open at most, so |g| ≤ |B_s − B_y| at every step."""
    net, (x, target) = stream_net("F20-F16-F4", weights=weights), rates(batch=16)
    rule = type(rule)()
    rule.attach(net, seed=1)
    with lines(monkeypatch) as seen:
        learnt(net, Held(x, 64), target, rule=rule, chunk=64)
    (top, ceiling), (below, _) = seen
    feedback = rule.slot(net.readout, net.readout.weight)
    assert feedback is not None
    bound = 2.0 * float(feedback.detach().abs().max())
    assert bound <= ceiling < 2.0 * bound
    assert math.frexp(ceiling)[0] == 0.5
    assert 0.0 < float(top.max()) <= ceiling
    assert float(below.max()) > 0.0


def test_a_stated_bound_on_weights_takes_the_place_of_the_largest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    net, (x, target) = stream_net(), rates()
    with lines(monkeypatch) as seen:
        learnt(net, Held(x, 8), target, ceiling=Tracked(weight_bound=3.0))
    assert [ceiling for _, ceiling in seen] == [8.0]


@pytest.mark.parametrize("value", [2.0**k for k in (-30, -3, 0, 1, 20)])
def test_powers_of_two_are_exact(value: float) -> None:
    """In float32 too, on both ways to them; the next number above one goes to the next power."""
    for dtype in (torch.float32, torch.float64):
        bound = torch.tensor(value, dtype=dtype)
        assert (
            float(Tracked().before(None, bound, torch.ones((), dtype=dtype)))
            == value
            == 2.0 ** math.ceil(math.log2(value))
        )
        assert float(Tracked().before(None, bound * 1.01, torch.ones((), dtype=dtype))) == 2.0 * value


def load(active: int, half: int, clipped: int) -> Load:
    return Load(torch.tensor(active), torch.tensor(half), torch.tensor(clipped))


@pytest.mark.parametrize(
    ("seen", "factor"),
    [
        (load(10_000, 500, 101), 2.0),  # more than 1 % above Γ
        (load(10_000, 500, 100), 1.0),  # just 1 %: not more
        (load(10_000, 50, 0), 1.0),  # just ½ % above Γ/2: not fewer
        (load(10_000, 49, 0), 0.5),
        (load(0, 0, 0), 1.0),  # silence says nothing
    ],
)
def test_the_ceiling_doubles_and_halves_at_the_shares_it_names(seen: Load, factor: float) -> None:
    assert float(Tracked(clipped=0.01).after(tensor(0.25), seen)) == 0.25 * factor


@pytest.mark.parametrize("start", [2.0**-12, 2.0**10])
def test_a_tracked_ceiling_finds_the_quantile_and_stays(start: float) -> None:
    """Errors of a normal law with deviation 2.5: 11 % exceed 4 and .14 % exceed 8, so Γ = 8 is where it stays from both sides.

    It gets there by one factor of two an update. (With ½ to 1 % above 8 it would stay at 16 too, if it came from above.)
    """
    tracked, source, ceiling = Tracked(clipped=0.01), torch.Generator().manual_seed(5), tensor(start)
    path = []
    for _ in range(30):
        g = 2.5 * torch.randn(40_000, generator=source, dtype=torch.float64).abs()
        ceiling = tracked.after(ceiling, load(len(g), int((g > 0.5 * ceiling).sum()), int((g > ceiling).sum())))
        path.append(float(ceiling))
    assert path[-12:] == [8.0] * 12
    steps = [b / a for a, b in zip([start, *path], path, strict=False)]
    assert set(steps) <= {0.5, 1.0, 2.0}


def test_a_scheme_tracks_the_layers_below_between_updates_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Γ of all chunks of an update is one; the next update has what the counts of this one say, of a lower layer alone."""
    net, (x, target) = stream_net("F20-F16-F14-F4"), rates(batch=16)
    assert_streams_alive(net, Held(x, 32))
    scheme, rule = Coincidence(ceiling=Tracked(clipped=0.02), chunk=8), Symmetric()
    rule.attach(net, seed=0)
    used: list[dict[str, float]] = []
    for step in range(12):
        before = {name: float(value) for name, value in scheme.memory.items()}
        with lines(monkeypatch) as seen:
            learnt(net, Held(x, 32), target, rule=rule, scheme=scheme, step=step)
        by_layer = [seen[place::3] for place in range(3)]
        for place, name in enumerate(("dense3", "dense2", "dense1")):
            ceilings = {ceiling for _, ceiling in by_layer[place]}
            assert len(by_layer[place]) == 4
            assert len(ceilings) == 1
            g, ceiling = torch.cat([size for size, _ in by_layer[place]]), ceilings.pop()
            if place == 0:
                assert name not in scheme.memory
                assert float(g.max()) <= ceiling
                continue
            assert ceiling == before.get(name, used[0]["dense3"] if used else ceiling)
            active = int((g > 0).sum())
            up, down = int((g > ceiling).sum()) > 0.02 * active, int((g > ceiling / 2).sum()) < 0.01 * active
            assert float(scheme.memory[name]) == ceiling * (2.0 if up else 0.5 if down else 1.0)
        used.append({"dense3": float(by_layer[0][0][1]), "dense1": float(by_layer[2][0][1])})
    assert len({one["dense1"] for one in used}) > 1, "no ceiling moved: this test would show nothing"


def test_constant_ceilings_multiply_from_the_readout_down(monkeypatch: pytest.MonkeyPatch) -> None:
    net, (x, target) = stream_net("F20-F16-F14-F4"), rates()
    scheme = Coincidence(ceiling=Constant(gamma=1.5))
    with lines(monkeypatch) as seen:
        for step in range(2):
            learnt(net, Held(x, 16), target, scheme=scheme, step=step)
    assert [ceiling for _, ceiling in seen] == [1.5, 2.25, 3.375] * 2
    assert not scheme.memory


def test_cut_nets_track_every_hidden_layer() -> None:
    """A direct projection has no bound that is known."""
    net, (x, target) = stream_net("F20-F16-F4"), rates(batch=16)
    rule, scheme = DirectFeedback(scale=1.0), Coincidence()
    learnt(net, Held(x, 16), target, rule=rule, scheme=scheme)
    assert scheme.memory.keys() == {"dense1", "dense2"}


@pytest.mark.parametrize(("memory", "engine"), [(None, Bits()), (BlockMean(), Bits()), (BlockMean(), Counts())])
def test_no_scale_biases_a_gradient_until_lines_clip(memory: BlockMean | None, engine: Bits | Counts) -> None:
    """Means over 150 batches at Γ = 4 and 16, 276 entries; at Γ = ¼ lines clip, and hidden gradients shrink.

    False alarms: 2·10⁻³ a case.
    """
    net, (x, target) = stream_net(memory=memory), rates()
    made = [
        repeated(net, Held(x, 32), target, engine, 150, ceiling=Constant(gamma=gamma), seed=seed)
        for seed, gamma in enumerate((4.0, 16.0, 0.25))
    ]

    for name in made[0]:
        assert gap(made[0][name], made[1][name]).abs().max() < LIMIT, name
    assert gap(made[2]["dense1.weight"], made[0]["dense1.weight"]).abs().max() > 7.0
    assert made[2]["dense1.weight"].mean(0).norm() < 0.8 * made[0]["dense1.weight"].mean(0).norm()
    assert gap(made[2]["readout.weight"], made[0]["readout.weight"]).abs().max() < LIMIT


def test_the_noise_of_a_gradient_grows_with_its_scale() -> None:
    """Variance of a count of rare spikes of size Γ/N is about Γ·|g|·x/N: four times the ceiling, twice the deviation."""
    net, (x, target) = stream_net(), rates()
    wide, narrow = (
        repeated(net, Held(x, 32), target, Bits(), 100, ceiling=Constant(gamma=gamma))["dense1.weight"].var(0).sum()
        for gamma in (64.0, 16.0)
    )
    assert float(wide / narrow) == pytest.approx(4.0, rel=0.2)


@pytest.mark.parametrize(
    ("kind", "settings", "key"),
    [
        (Constant, {"gamma": 0.0}, "gamma"),
        (Constant, {"gamma": math.inf}, "gamma"),
        (Tracked, {"weight_bound": -1.0}, "weight_bound"),
        (Tracked, {"clipped": 0.0}, "clipped"),
        (Tracked, {"clipped": 1.0}, "clipped"),
    ],
)
def test_settings_without_meaning_are_refused(kind: type, settings: dict[str, float], key: str) -> None:
    with pytest.raises(RecipeError, match=rf"temporal\.ceiling\.{key}"):
        kind(**settings)
