"""Online pseudo-zeroth-order training (OPZO): one noisy pass; the feedback is learnt from how the noise comes out at the top.

    forward     all hidden layers send a_l + α·z_l                    (`aplysia.nets.noise`)
    feedback    M_l ← λ·M_l + (1 − λ)·õ·z_lᵀ/α                        E[õ zᵀ]/α = Jacobian of the outputs by layer l
    error       g_l[t] = M_lᵀ·e[t],   e[t] = ∂L[t]/∂õ[t]              in closed form from the same noisy output
    update      ΔW_l ∝ Σ_t (ψ(u_l[t]) ∘ g_l[t]) ⊗ â_{l−1}[t]          â a trace of spikes; the readout by its own error e

Confirmed of the paper, second-hand: the equations above, all layers disturbed in one pass, a λ very near 1. The practical form
drops 1/α; M is then α times the Jacobian, so that α is also a factor on the learning rate of the hidden layers. Not known to
us, and chosen here: how M starts, how often it changes, α, one z per sample, what noise a convolution gets, and the meaning
of intermediate global learning: an extra classifier on a hidden layer, trained by its own exact gradient, whose output and
error serve the layers below it in place of the top's. Whether the noise that a synapse received enters its trace is not known
either; the trace is written as a sum over spikes, so by default it does not (`Noise.traced`), and an update costs events alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSeeded, Seen
from aplysia.credit.learned_feedback import Late, MomentumFeedback
from aplysia.errors import PairError
from aplysia.ledger.amount import Charge
from aplysia.ledger.sheet import Sheet
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net, noise_amplitude
from aplysia.nets.noise import Noise
from aplysia.ops.geometry import features
from aplysia.rng import generator
from aplysia.types import Claim, Cost, Paper, Tunable

_CLASSIFIER = "classifier/"


def _joined(rest: Late, exact: Tensor, slope: Tensor | None = None) -> Tensor:
    found = rest()
    made = exact if found is None else found + exact
    return made if slope is None else slope.mul_(made)


@dataclass(kw_only=True)
class PseudoZerothOrder(AbstractSeeded):
    """Feedback learnt from noise by momentum.

    Attributes:
        noise: what the forward pass is disturbed by. With α = 0 nothing is learnt of M, and it stays as it starts.
        feedback: how M is kept and learnt.
        scaled: whether õ·zᵀ is divided by α. The paper's practical form does not, which multiplies hidden errors by α.
        intermediate: names of hidden layers that own a classifier, which the layers below them take their errors from.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Xiao, Meng, Zhang, He, Lin",
        title="Online pseudo-zeroth-order training of neuromorphic spiking neural networks",
        year=2024,
        venue="arXiv 2407.12516; ICLR 2026",
        url="https://arxiv.org/abs/2407.12516",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT, Claim.UNLOCKED, Claim.RESPONSE})
    summary: ClassVar[str] = "one noisy pass; feedback from the output learnt from the noise by momentum (OPZO)"
    tunable: ClassVar[Tunable] = {"feedback.momentum": (0.9, 0.999, False)}

    noise: Noise = field(default_factory=partial(Noise, traced=False))
    feedback: MomentumFeedback = field(default_factory=MomentumFeedback)
    scaled: bool = True
    intermediate: tuple[str, ...] = ()

    _errors: dict[str, Late] = field(init=False, repr=False, compare=False, default_factory=dict)
    _written: int = field(init=False, repr=False, compare=False, default=0)

    def check_net(self, net: Net) -> None:
        hidden = [layer.name for layer in net.hidden]
        if not hidden:
            raise PairError(
                "rule PseudoZerothOrder", expected="a hidden layer", got="a readout alone", fix="use rule=symmetric"
            )
        unknown = [name for name in self.intermediate if name not in hidden]
        if unknown:
            raise PairError(
                "rule.intermediate",
                expected=f"hidden layers, of {', '.join(hidden)}",
                got=", ".join(unknown),
                fix="name those",
            )

    def check_loss(self, loss: AbstractLoss) -> None:
        if self.intermediate and not loss.per_step:
            raise PairError(
                "rule.intermediate",
                expected="a loss that is a sum over steps, since classifiers learn step by step",
                got=f"{type(loss).__name__}, known only at the end of the sequence",
                fix="set loss=stepwise, or name no layers",
            )

    def start(self, net: Net) -> dict[str, Tensor]:
        made = self.feedback.tensors(net, net.classes, self.seed)
        for layer in net.hidden:
            if layer.name in self.intermediate:
                source = generator("cpu", self.seed, "classifier", layer.name)
                drawn = torch.randn(net.classes, layer.units, generator=source) / layer.units**0.5
                made[_CLASSIFIER + layer.name] = drawn.to(layer.weight)
        return made

    def trained(self, net: Net) -> list[str]:
        return [_CLASSIFIER + name for name in self.intermediate]

    def observe(self, net: Net, seen: Seen) -> None:
        answers: list[Tensor] = []
        errors: list[Tensor] = []
        own: dict[str, Tensor] = {}
        # From the top down: a layer learns from the nearest classifier above it.
        answer, error = seen.outs[-1].detach(), seen.error
        for place, layer in reversed(list(enumerate(net.hidden))):
            answers.insert(0, answer)
            errors.insert(0, error)
            if layer.name in self.intermediate:
                answer, error, own[layer.name] = self._classify(net, seen, place)
        factors = None
        if self.scaled and seen.source is not None:
            factors = [1.0 / noise_amplitude(layer, seen.source) for layer in net.hidden]
        self._errors = self.feedback.run_late(
            self.tensors,
            net.hidden,
            seen.done.noise,
            answers,
            errors,
            step=self.step,
            steps=seen.steps,
            first=seen.start == 0,
            factors=factors,
        )
        for name, exact in own.items():
            self._errors[name] = partial(_joined, self._errors[name], exact)
        if seen.done.noise:
            self._written += self.feedback.written(
                self.tensors, net.hidden, step=self.step, chunk=len(seen.error), last=seen.last
            )

    def _classify(self, net: Net, seen: Seen, place: int) -> tuple[Tensor, Tensor, Tensor]:
        """Output and error of a hidden layer's classifier, and that error at the layer itself; trains the classifier."""
        classifier, sent = self.tensors[_CLASSIFIER + net.hidden[place].name], seen.sent(net, place)
        sent = features(sent.flatten(0, 1)).unflatten(0, sent.shape[:2])
        answer = sent @ classifier.detach().t()
        error = seen.loss.error(answer, seen.target, seen.steps)[1]
        update = (error.flatten(0, 1).t() @ sent.flatten(0, 1)).to(classifier.dtype)
        classifier.grad = update if classifier.grad is None else classifier.grad + update
        return answer, error, (error @ classifier.detach()).view_as(seen.outs[place])

    def seed_error(self, layer: Layer, out: Tensor, error: Tensor) -> Tensor | None:
        found = self._errors.pop(layer.name)()
        return None if found is None else found.to(out.dtype)

    def delta(self, layer: Layer, out: Tensor, error: Tensor, slope: Tensor) -> Tensor | None:
        return self._errors.pop(layer.name)(slope)

    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        cost = Cost(writes=self._written)
        self._written = 0
        return cost

    def learning(self, net: Net, step: int) -> list[Layer]:
        if self.feedback.start.ready(step):
            return net.synapses
        return [
            *(layer for layer in net.hidden if layer.name in self.intermediate),
            *self.local.served(net),
            net.readout,
        ]

    def errors(self, sheet: Sheet) -> list[Charge]:
        made = self.feedback.errors(sheet, directions=sheet.draws(self.noise) if self.noise.alpha > 0.0 else 0)
        for layer in sheet.net.hidden:
            if layer.name in self.intermediate:
                made += sheet.local_readout(layer, inputs=layer.units, spikes=not sheet.real_signals(self.noise))
        return made

    def memory_words(self, net: Net) -> int:
        """Numbers that have to be remembered beside the forward weights."""
        return self.feedback.memory_words(
            {n: t for n, t in self.tensors.items() if "/" not in n or n.startswith("pending/")}
        )
