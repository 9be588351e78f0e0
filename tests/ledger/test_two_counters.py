"""The closed form and the probe count the same batch, and agree exactly: every rule, scheme and kind of neuron."""

from __future__ import annotations

import pytest
from helpers import CASES, RULES, each_main_rule, each_rule, each_scheme, ripen
from ledger_parts import (
    CONV,
    CONV_SHAPE,
    FIRST_SPIKE,
    both,
    differences,
    first_spike,
    rates,
    stepped,
    stream_net,
    streamed,
)

from aplysia.credit.local import Readouts, Similarity
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.through_time import ThroughTime
from aplysia.credit.temporal.trace import Trace
from aplysia.errors import PairError
from aplysia.ledger.amount import Phase
from aplysia.nets.noise import Comparator, Membrane, Noise

HARD, HELD = "dense, hard, attached, leaky readout, gain", "dense, standardised, soft, attached, held"
IMAGES = "conv, soft, attached, average and max pool, groups, stride"


@each_rule
@each_scheme
@pytest.mark.parametrize("case", [HARD, IMAGES])
def test_stepped_nets(case: str, rule_name: str, scheme_name: str) -> None:
    closed, seen, activity = stepped(CASES[case], rule_name, scheme_name)
    assert all(n > 0 for n in activity.spikes.values()), "a silent net would show nothing"
    assert differences(closed, seen) == []


@each_main_rule
@pytest.mark.parametrize("case", [name for name in CASES if name not in (HARD, IMAGES)])
def test_other_stepped_nets(case: str, rule_name: str) -> None:
    try:
        closed, seen, _ = stepped(CASES[case], rule_name, "Trace-AfterSequence")
    except PairError as refused:
        pytest.skip(str(refused))
    assert differences(closed, seen) == []


@each_main_rule
@pytest.mark.parametrize("case", [name for name in FIRST_SPIKE if "ramp" not in name])
def test_first_spike_nets(case: str, rule_name: str) -> None:
    try:
        closed, seen, activity = first_spike(FIRST_SPIKE[case], rule_name)
    except PairError as refused:
        pytest.skip(str(refused))
    assert all(n > 0 for n in activity.spikes.values())
    assert differences(closed, seen) == []


@each_rule
@pytest.mark.parametrize("held", [True, False], ids=["rates", "bits"])
@pytest.mark.parametrize(
    ("text", "shape"), [("F16-F10-F4", (12,)), (CONV, CONV_SHAPE)], ids=["dense", "conv, pools, groups"]
)
def test_streams(text: str, shape: tuple[int, ...], held: bool, rule_name: str) -> None:
    net = stream_net(text, shape)
    try:
        closed, seen, activity = streamed(net, rule_name, *rates(shape), held=held)
    except PairError as refused:
        pytest.skip(str(refused))
    assert all(n > 0 for n in activity.spikes.values())
    assert differences(closed, seen) == []


@pytest.mark.parametrize("local", [Readouts(), Readouts(learns=False, cells=2), Similarity()], ids=str)
@pytest.mark.parametrize("case", [HARD, IMAGES])
def test_local_errors(case: str, local: Readouts | Similarity) -> None:
    closed, seen, _ = stepped(CASES[case], "Symmetric", "Trace-AfterSequence", local=local)
    if isinstance(local, Similarity):
        # Autograd's own derivative of cosines is not a product of weights; only the layers' are compared.
        for book in (closed, seen):
            book.entries = {key: amount for key, amount in book.entries.items() if key[1] is not Phase.ERROR}
    assert differences(closed, seen) == []


@pytest.mark.parametrize("site", [Membrane(), Comparator()], ids=["membrane", "comparator"])
def test_noise_inside_a_neuron_leaves_signals_spikes(site: Membrane | Comparator) -> None:
    closed, seen, _ = stepped(
        CASES[IMAGES], "PseudoZerothOrder", "Trace-AfterSequence", noise=Noise(alpha=0.3, site=site)
    )
    assert differences(closed, seen) == []
    assert closed.layer("readout", Phase.FORWARD).acs
    assert not closed.layer("readout", Phase.FORWARD).macs


@pytest.mark.parametrize(
    "scheme", [Trace(chunk=3), Trace(chunk=1), ThroughTime(chunk=3), ThroughTime(truncation=3, chunk=2)], ids=str
)
@pytest.mark.parametrize("antithetic", [True, False])
def test_chunks_that_cut_pairs_of_noise_apart(scheme: Trace | ThroughTime, antithetic: bool) -> None:
    """M learns from both steps of a pair at once where they are run at once, and from each alone where not."""
    net, rule = CASES[HARD].net(), RULES["PseudoZerothOrder"](noise=Noise(alpha=0.3, antithetic=antithetic))
    rule.attach(net, seed=5)
    closed, seen, _ = both(net, ripen(rule), scheme, *CASES[HARD].input(steps=7, batch=2), StepwiseLoss(mse_share=0.3))
    assert differences(closed, seen) == []


def test_noise_on_what_is_sent_makes_signals_real_numbers() -> None:
    closed, seen, _ = stepped(CASES[IMAGES], "PseudoZerothOrder", "Trace-AfterSequence")
    assert differences(closed, seen) == []
    forward = closed.layer("readout", Phase.FORWARD)
    assert forward.macs == forward.dense
    assert not forward.acs


def test_a_lie_about_costs_is_seen() -> None:
    """A closed form that leaves out the last layer's error, or counts a real number as a spike, differs from what is seen."""

    class Forgetful(Symmetric):
        def errors(self, sheet):  # type: ignore[no-untyped-def]
            return super().errors(sheet)[:-1]

    RULES["Forgetful"] = Forgetful
    try:
        closed, seen, _ = stepped(CASES[HARD], "Forgetful", "Trace-AfterSequence")
    finally:
        del RULES["Forgetful"]
    assert any(line.startswith("readout error macs") for line in differences(closed, seen))
