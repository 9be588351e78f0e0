"""Transport schemes, timings and links, each against an independent count or a written-out selection."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from helpers import DENSE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aplysia.credit.change import Absolute, AcrossLayers, RunningQuantile, address_bits, exact_words, largest
from aplysia.credit.interval import Budget, Drift, InverseRate, PerLayer, Staggered, Together
from aplysia.credit.link import Link
from aplysia.credit.spatial.frozen import FrozenBackprop, RandomInitialFeedback
from aplysia.credit.transport import AbstractTransport, Cyclic, LargestChange, Random, Threshold, Whole, draw_distinct
from aplysia.errors import PairError, RecipeError
from aplysia.nets.net import Net
from aplysia.types import Cost

SIZES = {"dense2": 14 * 12, "readout": 12 * 4}
TOTAL = sum(SIZES.values())


class Walk:
    """A rule on a net whose weights walk at random: what is copied depends on nothing else.

    Attributes:
        costs: of every step.
        held: B of every layer before the first step and after every one.
        weights: W likewise.
    """

    def __init__(self, rule: FrozenBackprop, *, seed: int = 5, lr: float = 0.1) -> None:
        self.rule, self.net = rule, DENSE.net()
        assert {layer.name: layer.weight.numel() for layer in self.net.fed_back} == SIZES
        rule.attach(self.net, seed=seed)
        self.optimiser = torch.optim.SGD(self.net.parameters(), lr=lr)
        self.costs: list[Cost] = []
        self.held, self.weights = [self._of(rule)], [self._of(self.net)]

    def _of(self, owner: FrozenBackprop | Net) -> dict[str, Tensor]:
        if isinstance(owner, Net):
            return {layer.name: layer.weight.detach().flatten().clone() for layer in owner.fed_back}
        return {name: owner.tensors[name].flatten().clone() for name in SIZES}

    def on(self, steps: int, rate: Callable[[int], float] | None = None) -> Walk:
        for step in range(len(self.costs), len(self.costs) + steps):
            if rate is not None:
                self.optimiser.param_groups[0]["lr"] = rate(step)
            with torch.no_grad():
                for n, layer in enumerate(self.net.all):
                    source = torch.Generator().manual_seed(1000 * step + n)
                    layer.weight.add_(0.05 * torch.randn(layer.weight.shape, generator=source).double())
            self.costs.append(self.rule.after(self.net, self.optimiser, step))
            self.held.append(self._of(self.rule))
            self.weights.append(self._of(self.net))
        return self

    def total(self) -> Cost:
        return sum(self.costs, Cost())

    def changed(self, name: str) -> list[int]:
        """How many entries of B differ from those of the step before, for every step."""
        return [int((b[name] != a[name]).sum()) for a, b in zip(self.held, self.held[1:], strict=False)]

    def moved(self) -> list[int]:
        """The same, of all layers."""
        return [sum(counts) for counts in zip(*(self.changed(name) for name in SIZES), strict=True)]


def partials(fraction: float) -> list[AbstractTransport]:
    return [
        Random(fraction=fraction),
        Cyclic(fraction=fraction),
        LargestChange(fraction=fraction),
        LargestChange(fraction=fraction, pool=AcrossLayers()),
    ]


# --- counting --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 999), st.integers(1, 10_000), st.integers(1, 60))
def test_words_of_all_events_add_up_to_the_fraction_exactly(thousandths: int, size: int, events: int) -> None:
    counts = [exact_words(thousandths / 1000, size, e) for e in range(1, events + 1)]
    assert sum(counts) == thousandths * size * events // 1000
    assert max(counts) - min(counts) <= 1


def test_a_fraction_is_the_decimal_that_was_written() -> None:
    assert 0.29 * 100 < 29
    assert exact_words(0.29, 100, 1) == 29


@pytest.mark.parametrize(
    ("words", "size", "bits"), [(0, 100, 0), (3, 100, 21), (20, 100, 100), (2, 128, 14), (2, 129, 16), (1, 1, 0)]
)
def test_addresses_are_whole_numbers_of_bits_or_a_map(words: int, size: int, bits: int) -> None:
    assert address_bits(words, size) == bits


@pytest.mark.parametrize("fraction", [0.003, 0.01, 0.1, 0.29, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("interval", [1, 3])
def test_counters_equal_the_fraction_of_layers_two_to_the_last(fraction: float, interval: int) -> None:
    steps, part = 20, Fraction(str(fraction))
    for scheme in partials(fraction):
        walk = Walk(FrozenBackprop(interval=interval, transport=scheme)).on(steps)
        cost, events = walk.total(), steps // interval
        words = sum(math.floor(part * size * events) for size in SIZES.values())
        assert (cost.events, cost.words, cost.writes, cost.bits) == (events, words, words, 64 * words)
        assert sum(walk.moved()) == words
        assert words > 0


def test_whole_copies_are_counted_and_take_no_addresses() -> None:
    walk = Walk(FrozenBackprop(interval=4)).on(10)
    assert walk.total() == Cost(events=2, words=2 * TOTAL, bits=2 * TOTAL * 64, writes=2 * TOTAL)
    assert walk.moved() == [0, 0, 0, TOTAL, 0, 0, 0, TOTAL, 0, 0]


def test_addresses_of_each_scheme() -> None:
    """168 weights need 8 bits each, 48 need 6; a map of them 168 and 48; both together, 216, need 8."""
    steps, part = 7, Fraction("0.1")
    counts = [
        [math.floor(part * size * e) - math.floor(part * size * (e - 1)) for e in range(1, steps + 1)]
        for size in SIZES.values()
    ]
    each = list(zip(*counts, strict=True))
    want = {
        Whole(): 0,
        Random(fraction=0.1): 0,
        Cyclic(fraction=0.1): 0,
        LargestChange(fraction=0.1): sum(min(8 * a, 168) + min(6 * b, 48) for a, b in each),
        LargestChange(fraction=0.1, pool=AcrossLayers()): sum(min(8 * (a + b), 216) for a, b in each),
    }
    for scheme, bits in want.items():
        assert Walk(FrozenBackprop(interval=1, transport=scheme)).on(steps).total().address_bits == bits


def test_memory_beside_the_weights_is_one_word_each_where_changes_are_looked_at() -> None:
    net = DENSE.net()
    for scheme in (Whole(), Random(), Cyclic()):
        assert FrozenBackprop(transport=scheme).memory_words(net) == 0
        assert FrozenBackprop(transport=scheme, schedule=Drift()).memory_words(net) == TOTAL
    for scheme in (Threshold(), LargestChange()):
        assert FrozenBackprop(transport=scheme).memory_words(net) == TOTAL
        assert FrozenBackprop(transport=scheme, schedule=Drift()).memory_words(net) == TOTAL


@pytest.mark.parametrize("scheme", [Whole, Random, Cyclic, Threshold, LargestChange])
def test_a_scheme_states_its_compute(scheme: type[AbstractTransport]) -> None:
    assert scheme.compute.startswith("O(")


# --- what each scheme picks ------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.data())
def test_the_largest_changes_are_those_of_a_full_stable_sort(values: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(values)))
    by_hand = sorted(range(len(values)), key=lambda n: (-values[n], n))[:count]
    assert sorted(largest(torch.tensor(values, dtype=torch.float64) / 3, count).tolist()) == sorted(by_hand)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.data())
def test_the_largest_changes_across_layers_are_those_of_one_sort_over_all(
    values: list[int], data: st.DataObject
) -> None:
    cut, first, second = (
        data.draw(st.integers(1, len(values) - 1)),
        data.draw(st.integers(0, 5)),
        data.draw(st.integers(0, 5)),
    )
    first, second = min(first, cut), min(second, len(values) - cut)
    changes = torch.tensor(values, dtype=torch.float64)
    picked = AcrossLayers().largest([changes[:cut], changes[cut:]], [first, second])
    by_hand = sorted(range(len(values)), key=lambda n: (-values[n], n))[: first + second]
    got = [*picked[0].index.tolist(), *(picked[1].index + cut).tolist()]  # type: ignore[union-attr]
    assert sorted(got) == sorted(by_hand)
    assert [selection.words for selection in picked] == [sum(n < cut for n in by_hand), sum(n >= cut for n in by_hand)]


def test_the_change_that_counts_is_the_accumulated_one() -> None:
    """A weight that creeps is sent before one that jumped and came back."""
    rule = FrozenBackprop(interval=3, transport=LargestChange(fraction=0.02))
    net = DENSE.net()
    rule.attach(net, seed=0)
    weight = net.readout.weight.data.view(-1)
    start, optimiser = weight.clone(), torch.optim.SGD(net.parameters(), lr=0.1)
    for step, (creeps, jumps) in enumerate([(0.1, 5.0), (0.2, -3.0), (0.3, 0.05)]):
        weight[5], weight[9] = start[5] + creeps, start[9] + jumps
        rule.after(net, optimiser, step)
    # 0.02·48 is not yet a word at the first event; the second event has one.
    for step in range(3, 6):
        rule.after(net, optimiser, step)
    held = rule.tensors["readout"].view(-1)
    assert (held != start).nonzero().flatten().tolist() == [5]
    assert held[5] == weight[5]


def test_a_threshold_sends_what_has_changed_by_more() -> None:
    for level in (Absolute(threshold=0.08), RunningQuantile(fraction=0.1)):
        walk = Walk(FrozenBackprop(interval=2, transport=Threshold(level=level))).on(12)
        cost, words, addresses = walk.total(), 0, 0
        for step in range(1, 12, 2):
            for name, size in SIZES.items():
                before, after, weight = walk.held[step][name], walk.held[step + 1][name], walk.weights[step + 1][name]
                sent = before != after
                assert torch.equal(after[sent], weight[sent])
                change = (weight - before).abs()
                if isinstance(level, Absolute):
                    assert torch.equal(sent, change > level.threshold)
                elif sent.any():
                    assert change[~sent].max() < change[sent].min()
                words += int(sent.sum())
                addresses += min(int(sent.sum()) * (8 if size == 168 else 6), size)
        assert (cost.words, cost.writes, cost.address_bits, cost.events) == (words, words, addresses, 6)
        assert words > 0


@pytest.mark.parametrize("fraction", [0.05, 0.3])
def test_a_running_quantile_comes_to_send_its_share(fraction: float) -> None:
    scheme = Threshold(level=RunningQuantile(fraction=fraction))
    walk = Walk(FrozenBackprop(interval=1, transport=scheme)).on(150)
    late = sum(walk.moved()[50:]) / (100 * TOTAL)
    assert late == pytest.approx(fraction, rel=0.15)


def test_a_running_quantile_is_found_again_after_it_was_zero() -> None:
    level = RunningQuantile(fraction=0.25)
    assert level.value(-1.0, torch.zeros(8)) == 0.0
    assert level.value(level.after(0.0, 0.5), torch.arange(8.0)) == 5.0
    assert level.value(0.3, torch.arange(8.0)) == 0.3
    assert level.after(1.0, 0.5) > 1.0 > level.after(1.0, 0.0)
    assert level.after(1.0, 0.25) == 1.0


@pytest.mark.parametrize("fraction", [0.25, 0.1, 1.0])
def test_cyclic_visits_every_weight_once_in_a_round(fraction: float) -> None:
    walk = Walk(FrozenBackprop(interval=1, transport=Cyclic(fraction=fraction)))
    # 0.1·168 is not whole: a round of 10 events is, and so is the next one.
    for _ in range(2):
        start = len(walk.costs)
        walk.on(round(1 / fraction))
        for name, size in SIZES.items():
            visits = sum(
                (b[name] != a[name]).long() for a, b in zip(walk.held[start:], walk.held[start + 1 :], strict=False)
            )
            assert torch.equal(visits, torch.ones(size, dtype=torch.long))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.data())
def test_a_random_draw_has_no_repeats_and_is_of_the_right_size(size: int, data: st.DataObject) -> None:
    words, seed = data.draw(st.integers(0, size)), data.draw(st.integers(0, 1000))
    index, drawn = draw_distinct(words, size, torch.Generator().manual_seed(seed))
    assert len(set(index.tolist())) == len(index) == words
    assert all(0 <= n < size for n in index.tolist())
    assert drawn >= words


@pytest.mark.parametrize("words", [3, 7])
def test_a_random_draw_takes_every_weight_as_often(words: int) -> None:
    counts, rounds = torch.zeros(10), 4000
    for seed in range(rounds):
        counts[draw_distinct(words, 10, torch.Generator().manual_seed(seed))[0]] += 1
    spread = math.sqrt(rounds * words / 10 * (1 - words / 10))
    assert (counts - rounds * words / 10).abs().max() < 5 * spread


def test_the_random_numbers_are_counted_as_they_are_drawn() -> None:
    walk = Walk(FrozenBackprop(interval=1, transport=Random(fraction=0.2))).on(5)
    drawn = 0
    for step in range(5):
        for name, size in SIZES.items():
            want = math.floor(Fraction("0.2") * size * (step + 1)) - math.floor(Fraction("0.2") * size * step)
            source, seen = walk.rule._source("transport", name, step), set()
            while len(seen) < want:
                seen.add(int(torch.randint(size, (1,), generator=source)))
                drawn += 1
    assert walk.total().random_numbers == drawn


@pytest.mark.parametrize(
    "settings_",
    [
        {"interval": 2, "transport": Random(fraction=0.2)},
        {"interval": 2, "link": Link(drop=0.4)},
        {"interval": None, "initial": RandomInitialFeedback()},
    ],
    ids=["choice", "loss", "start"],
)
def test_equal_seeds_agree_and_others_differ(settings_: dict[str, Any]) -> None:
    first, again, other = (
        torch.cat(list(Walk(FrozenBackprop(**settings_), seed=n).on(6).held[-1].values())) for n in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# --- timings ---------------------------------------------------------------------------------------------------------


def steps_of(walk: Walk, name: str) -> list[int]:
    """The steps, from 1, after which a layer's feedback changed."""
    return [n + 1 for n, count in enumerate(walk.changed(name)) if count]


def test_together_is_every_phi_steps() -> None:
    walk = Walk(FrozenBackprop(interval=4)).on(13)
    assert steps_of(walk, "dense2") == steps_of(walk, "readout") == [4, 8, 12]
    assert [cost.events for cost in walk.costs] == [int(n % 4 == 0) for n in range(1, 14)]


def test_each_layer_has_its_own_interval() -> None:
    walk = Walk(FrozenBackprop(interval=1, schedule=PerLayer(intervals=(2, 5)))).on(11)
    assert steps_of(walk, "dense2") == [2, 4, 6, 8, 10]
    assert steps_of(walk, "readout") == [5, 10]
    assert walk.total() == Cost(events=6, words=5 * 168 + 2 * 48, bits=64 * (5 * 168 + 2 * 48), writes=5 * 168 + 2 * 48)


@pytest.mark.parametrize("interval", [2, 3, 7])
def test_staggered_layers_never_meet_and_keep_their_interval(interval: int) -> None:
    walk = Walk(FrozenBackprop(interval=interval, schedule=Staggered())).on(22)
    first, second = steps_of(walk, "dense2"), steps_of(walk, "readout")
    assert not set(first) & set(second)
    assert first == list(range(interval, 23, interval))
    assert second == list(range(interval + interval // 2, 23, interval))
    assert walk.total().events == len(first) + len(second)


@pytest.mark.parametrize(("interval", "layers"), [(4, 4), (5, 4), (9, 4), (100, 7)])
def test_staggered_offsets_differ_wherever_there_is_room(interval: int, layers: int) -> None:
    late = [place * interval // layers for place in range(layers)]
    assert len({n % interval for n in late}) == layers


def test_an_interval_grows_as_the_rate_falls() -> None:
    """Rates 1, then ½, then ¼ of the first: a phase of 4 takes 4, 8, 16 steps."""
    rates = [0.1] * 8 + [0.05] * 16 + [0.025] * 32
    walk = Walk(FrozenBackprop(interval=4, schedule=InverseRate())).on(len(rates), rate=lambda step: rates[step])
    assert steps_of(walk, "dense2") == steps_of(walk, "readout") == [4, 8, 16, 24, 40, 56]


@pytest.mark.parametrize("interval", [1, 3, 10])
def test_a_constant_rate_is_the_fixed_interval(interval: int) -> None:
    walk = Walk(FrozenBackprop(interval=interval, schedule=InverseRate()), lr=0.1).on(31)
    assert steps_of(walk, "readout") == list(range(interval, 32, interval))


def test_a_warm_up_is_measured_against_the_rate_before_the_schedule() -> None:
    walk = Walk(FrozenBackprop(interval=2, schedule=InverseRate()), lr=0.1)
    walk.optimiser.param_groups[0]["initial_lr"] = 0.1
    walk.on(10, rate=lambda step: [0.0, 0.025, 0.025, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1][step])
    # Phases: 0, ¼, ½, 1, 2 → copy, 1, 2 → copy, …
    assert steps_of(walk, "readout") == [5, 7, 9]


def test_a_layer_copies_once_it_has_drifted_too_far() -> None:
    walk = Walk(FrozenBackprop(interval=2, schedule=Drift(bound=0.15))).on(40)
    for name in SIZES:
        due = []
        for step in range(2, 41, 2):
            weight, held = walk.weights[step][name], walk.held[step - 1][name]
            if math.sqrt(float(((weight - held) ** 2).sum())) > 0.15 * math.sqrt(float((weight**2).sum())):
                due.append(step)
        assert steps_of(walk, name) == due
        assert 2 < len(due) < 19


@pytest.mark.parametrize("words", [0.4, 7.0, 30.5])
@pytest.mark.parametrize("interval", [1, 3])
def test_a_budget_is_spent_in_proportion_and_to_the_last_word(words: float, interval: int) -> None:
    steps = 21
    for scheme in partials(1.0):
        walk = Walk(FrozenBackprop(interval=interval, transport=scheme, schedule=Budget(words=words))).on(steps)
        given = Fraction(str(words)) * (steps // interval) * interval
        each = {name: math.floor(given * size / TOTAL) for name, size in SIZES.items()}
        if not isinstance(scheme, LargestChange) or not isinstance(scheme.pool, AcrossLayers):
            assert {name: sum(walk.changed(name)) for name in SIZES} == each
        assert walk.total().words == sum(each.values())
        assert given - len(SIZES) < sum(each.values()) <= given


def test_a_budget_saves_up_for_whole_copies_and_never_beyond_one() -> None:
    walk = Walk(FrozenBackprop(interval=1, schedule=Budget(words=54.0))).on(13)
    # A quarter of all weights a step: a copy of each layer every fourth step.
    assert steps_of(walk, "dense2") == steps_of(walk, "readout") == [4, 8, 12]
    flood = Walk(FrozenBackprop(interval=1, schedule=Budget(words=10_000.0))).on(3)
    assert flood.total().words == 3 * TOTAL


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latency", [1, 2, 5, 9])
@pytest.mark.parametrize("interval", [1, 3])
@pytest.mark.parametrize(
    "scheme", [Whole(), Cyclic(fraction=0.3), LargestChange(fraction=0.3)], ids=lambda s: type(s).__name__
)
def test_a_late_link_is_late_by_exactly_its_latency(latency: int, interval: int, scheme: AbstractTransport) -> None:
    late = Walk(FrozenBackprop(interval=interval, transport=scheme, link=Link(latency=latency))).on(20)
    prompt = Walk(FrozenBackprop(interval=interval, transport=scheme)).on(20)
    for step in range(21):
        for name in SIZES:
            assert torch.equal(late.held[step][name], prompt.held[max(0, step - latency)][name])
    assert late.total().words == prompt.total().words
    assert [c.writes for c in late.costs] == [0] * latency + [c.writes for c in prompt.costs[: 20 - latency]]


@pytest.mark.parametrize("latency", [0, 3])
@pytest.mark.parametrize("scheme", [Whole(), Random(fraction=0.5)], ids=lambda s: type(s).__name__)
def test_lost_words_are_sent_and_not_written(latency: int, scheme: AbstractTransport) -> None:
    walk = Walk(FrozenBackprop(interval=1, transport=scheme, link=Link(drop=0.25, latency=latency))).on(30)
    sent = sum(c.words or 0 for c in walk.costs[: 30 - latency])
    written = walk.total().writes or 0
    assert written == sum(walk.moved())
    assert written / sent == pytest.approx(0.75, abs=5 * math.sqrt(0.25 * 0.75 / sent))
    assert walk.total().random_numbers == (0 if isinstance(scheme, Whole) else Walk(
        FrozenBackprop(interval=1, transport=scheme)).on(30).total().random_numbers)  # fmt: skip


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
@pytest.mark.parametrize("latency", [0, 2])
@pytest.mark.parametrize("scheme", [Whole(), Cyclic(fraction=0.3)], ids=lambda s: type(s).__name__)
def test_feedback_of_few_bits_has_few_levels(bits: int, latency: int, scheme: AbstractTransport) -> None:
    walk = Walk(FrozenBackprop(interval=1, transport=scheme, link=Link(bits=bits, latency=latency))).on(12)
    for held in walk.held:
        for name, size in SIZES.items():
            assert 2 <= len(held[name].unique()) <= min(2**bits, size)
    cost = walk.total()
    # Two layers, twelve events, a scale of 64 bits each.
    assert cost.bits == bits * (cost.words or 0) + 64 * 2 * 12


@pytest.mark.parametrize("latency", [0, 2])
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_rounding_is_to_the_nearest_level(bits: int, latency: int) -> None:
    walk = Walk(FrozenBackprop(interval=1, link=Link(bits=bits, latency=latency))).on(5)
    for name in SIZES:
        weight, held = walk.weights[-1 - latency][name], walk.held[-1][name]
        top = 2 ** (bits - 1) - 1
        levels = torch.arange(-top, top + 1).double() * float(weight.abs().max()) / top
        nearest = levels[(weight[:, None] - levels).abs().argmin(1)]
        torch.testing.assert_close(held, nearest, rtol=1e-14, atol=1e-15)


def test_one_bit_is_the_sign_times_the_mean() -> None:
    walk = Walk(FrozenBackprop(interval=1, link=Link(bits=1))).on(3)
    for name in SIZES:
        weight, held = walk.weights[-1][name], walk.held[-1][name]
        torch.testing.assert_close(held, weight.sign() * weight.abs().mean(), rtol=1e-14, atol=0)


def test_words_that_took_no_part_are_read_at_the_new_scale() -> None:
    walk = Walk(FrozenBackprop(interval=1, transport=Cyclic(fraction=0.25), link=Link(bits=4)))
    with torch.no_grad():
        for layer in walk.net.fed_back:
            layer.weight.mul_(3.0)
    walk.rule.after(walk.net, walk.optimiser, 0)
    for layer in walk.net.fed_back:
        before, after = walk.held[0][layer.name], walk.rule.tensors[layer.name].flatten()
        torch.testing.assert_close(after, 3.0 * before, rtol=1e-14, atol=0)


def test_what_was_sent_is_not_sent_again_though_it_is_late_or_coarse_or_lost() -> None:
    """With the weights at rest, a scheme that looks at changes goes round all of them instead of sending a few for ever."""
    for link in (Link(latency=5), Link(bits=2), Link(drop=0.5)):
        rule = FrozenBackprop(interval=1, transport=LargestChange(fraction=0.25), link=link)
        walk = Walk(rule).on(1)
        start = rule.tensors["sent/readout"].clone()
        optimiser, net = walk.optimiser, walk.net
        with torch.no_grad():
            for layer in net.fed_back:
                layer.weight.add_(0.1)
        for step in range(1, 5):
            rule.after(net, optimiser, step)
        assert torch.equal(rule.tensors["sent/readout"], net.readout.weight)
        assert not torch.equal(start, net.readout.weight)


# --- wrong use -------------------------------------------------------------------------------------------------------


NAN = float("nan")


@pytest.mark.parametrize(
    ("make", "key"),
    [
        *((lambda n=n: FrozenBackprop(interval=n), "rule.interval") for n in (0, -3, 2.5, NAN)),
        *(
            (lambda kind=kind, f=f: kind(fraction=f), "rule.transport.fraction")
            for kind in (Random, Cyclic, LargestChange)
            for f in (0.0, -0.1, 1.1, NAN)
        ),
        *((lambda f=f: RunningQuantile(fraction=f), "rule.transport.level.fraction") for f in (0.0, 2.0, NAN)),
        *((lambda r=r: RunningQuantile(rate=r), "rule.transport.level.rate") for r in (0.0, 1.5, NAN)),
        *((lambda t=t: Absolute(threshold=t), "rule.transport.level.threshold") for t in (-1.0, math.inf, NAN)),
        *((lambda d=d: Link(drop=d), "rule.link.drop") for d in (-0.1, 1.0, NAN)),
        (lambda: Link(latency=-1), "rule.link.latency"),
        *((lambda b=b: Link(bits=b), "rule.link.bits") for b in (0, -8, 25)),
        *((lambda b=b: Drift(bound=b), "rule.schedule.bound") for b in (-0.1, math.inf, NAN)),
        *((lambda w=w: Budget(words=w), "rule.schedule.words") for w in (0.0, -1.0, math.inf, NAN)),
        (lambda: PerLayer(intervals=(3, 0)), "rule.schedule.intervals"),
        (lambda: FrozenBackprop(transport=Threshold(), schedule=Budget()), "rule.schedule"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_in_one_sentence(make: Callable[[], object], key: str) -> None:
    with pytest.raises(RecipeError) as refused:
        make()
    assert refused.value.where == key
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("intervals", [(3,), (1, 2, 3)])
def test_as_many_intervals_as_layers_are_asked_for(intervals: tuple[int, ...]) -> None:
    with pytest.raises(PairError, match="2 intervals"):
        FrozenBackprop(schedule=PerLayer(intervals=intervals)).attach(DENSE.net(), seed=0)


def test_every_part_is_a_frozen_dataclass() -> None:
    for part in (
        Whole(),
        Random(),
        Cyclic(),
        Threshold(),
        LargestChange(),
        Together(),
        Staggered(),
        PerLayer(),
        Link(),
    ):
        assert dataclasses.is_dataclass(part)
        assert hash(part) == hash(dataclasses.replace(part))
