"""Nets small enough to count by hand; the hand count stands beside each number."""

from __future__ import annotations

import torch

from aplysia.credit.spatial.direct_feedback import DirectFeedback
from aplysia.credit.spatial.kolen_pollack import KolenPollack
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.spike_time import SpikeTime
from aplysia.credit.temporal.through_time import ThroughTime
from aplysia.credit.temporal.trace import Trace
from aplysia.ledger.activity import measure
from aplysia.ledger.amount import Amount, Phase
from aplysia.ledger.count import count_step
from aplysia.nets.net import Net
from aplysia.nets.zoo import build
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.neurons.potential import Potential
from aplysia.neurons.windowed import Windowed


def dense() -> Net:
    """Two inputs, three hidden units, two outputs; hidden unit j fires at a step when input 0 is there, unless j = 2."""
    net = build("F3-F2", (2,), neuron=LIF(leak=0.5), readout=Integrator(), bias=False)
    with torch.no_grad():
        net.all[0].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    return net


# Two steps, one sample: input 0 at the first step, both inputs at the second.
X = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])


def test_a_dense_net_by_hand() -> None:
    net = dense()
    activity = measure(net, X, input_real=False)
    book = count_step(net, Symmetric(), Trace(), activity)
    assert activity.spikes == {"dense1": 4}  # units 0 and 1 at both steps
    assert book.layer("dense1", Phase.FORWARD) == Amount(
        dense=12,  # 2 steps · 2 inputs · 3 units
        acs=9,  # 3 input spikes · 3 units
        updates=6,  # 2 steps · 3 membranes
        spikes=4,
        address_bits=8,  # 2 bits say which of 3 units
        forward_reads=9,
    )
    assert book.layer("readout", Phase.FORWARD) == Amount(
        dense=12,  # 2 steps · 3 units · 2 outputs
        acs=8,  # 4 spikes · 2 outputs
        updates=4,
        forward_reads=8,
    )
    assert book.layer("readout", Phase.ERROR) == Amount(
        dense=12,
        macs=12,  # an error is a real number, and sent whether or not it is 0
        words=4,  # 2 steps · 2 outputs
        bits=128,
        feedback_reads=12,
    )
    assert book.layer("dense1", Phase.ERROR) == Amount(updates=6)  # ψ of 3 units at 2 steps; nothing is sent below
    assert book.layer("dense1", Phase.UPDATE) == Amount(
        dense=12,
        macs=9,  # traces: input 0 at both steps, input 1 at the second; 3 units each
        updates=4,  # 2 traces brought up to date at 2 steps
        forward_reads=6,
        forward_writes=6,
    )
    assert book.layer("readout", Phase.UPDATE) == Amount(
        dense=12,
        acs=8,  # a readout without memory has no traces: 4 spikes · 2 outputs
        forward_reads=6,
        forward_writes=6,
    )


def test_feedback_that_learns_is_read_and_written_like_the_weights() -> None:
    net = dense()
    activity = measure(net, X, input_real=False)
    book = count_step(net, KolenPollack(), ThroughTime(), activity)
    update = book.layer("readout", Phase.UPDATE)
    assert (update.feedback_reads, update.feedback_writes, update.forward_writes) == (6, 6, 6)
    assert book.layer("dense1", Phase.UPDATE).feedback_writes == 0  # nothing is fed back below the first layer


def test_direct_feedback_by_hand() -> None:
    net = dense()
    book = count_step(net, DirectFeedback(), ThroughTime(), measure(net, X, input_real=False))
    assert book.layer("dense1", Phase.ERROR) == Amount(
        dense=12,
        macs=12,  # 2 steps · 2 outputs · 3 units
        words=4,  # the 2 numbers of the output error at 2 steps
        bits=128,
        feedback_reads=12,
        updates=6,
    )
    assert book.layer("readout", Phase.ERROR) == Amount()


def test_a_convolution_with_a_pool_by_hand() -> None:
    """One 4 × 4 image of one channel, a 3 × 3 kernel with padding 1, an average pool of 2 × 2, one output."""
    net = build("1C3-A2-F1", (1, 4, 4), neuron=LIF(leak=0.0), readout=Integrator(), bias=False)
    with torch.no_grad():
        net.all[0].weight.zero_()
        net.all[0].weight[0, 0, 1, 1] = 1.0  # each unit copies its pixel
    x = torch.zeros(1, 1, 1, 4, 4)
    x[0, 0, 0, 0, 0] = x[0, 0, 0, 0, 1] = x[0, 0, 0, 2, 2] = 1.0
    activity = measure(net, x, input_real=False)
    book = count_step(net, Symmetric(), ThroughTime(), activity)
    conv, readout = book.layer("conv1", Phase.FORWARD), book.layer("readout", Phase.FORWARD)
    assert conv.dense == 100  # 4 corners · 4 + 8 edges · 6 + 4 inner places · 9 units reached
    assert conv.acs == 4 + 6 + 9  # a corner, an edge and an inner pixel
    assert conv.spikes == 3
    assert readout.dense == 4  # four pooled places
    assert readout.acs == 3  # each spike passes the pool by itself


def test_a_window_of_spike_times_by_hand() -> None:
    """Two inputs of which one fires, two windowed units, one potential: a time is a real number, that it came is a spike."""
    net = build("F2-F1", (2,), neuron=Windowed(), readout=Potential(), bias=False)
    with torch.no_grad():
        net.all[0].weight.copy_(torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
    x = torch.tensor([[[0.5, 0.0]]])
    activity = measure(net, x, input_real=True)
    book = count_step(net, Symmetric(), SpikeTime(), activity)
    assert activity.spikes == {"dense1": 2}
    assert book.layer("dense1", Phase.FORWARD) == Amount(
        dense=8,  # two products of 2 inputs · 2 units
        macs=2,  # one time · 2 units
        acs=2,  # that it fired · 2 units
        updates=2,
        spikes=2,
        address_bits=2,
        forward_reads=4,
    )
    assert book.layer("readout", Phase.ERROR).macs == 2  # one error · 2 units
    assert book.layer("dense1", Phase.UPDATE).macs == 2
    assert book.layer("dense1", Phase.UPDATE).acs == 2
