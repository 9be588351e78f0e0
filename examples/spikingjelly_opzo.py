"""A SpikingJelly model learns by pseudo-zeroth-order training: feedback learnt from noise, no backward pass between layers.

    python examples/spikingjelly_opzo.py

Needs spikingjelly: pip install 'aplysia[peers]'. Takes some ten seconds.
"""

import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import aplysia
from aplysia.data.digits import Digits
from aplysia.nets.noise import Noise


def forward(model: nn.Module, x: Tensor) -> Tensor:
    """Six steps of a constant input, from fresh states."""
    functional.reset_net(model)
    return model(x.expand(6, *x.shape))


def loss(output: Tensor, target: Tensor) -> Tensor:
    return cross_entropy(output.mean(0), target)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # a net this small gains nothing from a second
    digits = Digits().load()
    (x, y), (test_x, test_y) = ((s.inputs * digits.scale, s.labels) for s in (digits.train, digits.test))
    model = nn.Sequential(
        layer.Conv2d(1, 16, 3, padding=1),
        neuron.LIFNode(decay_input=False),
        layer.MaxPool2d(2),
        layer.Flatten(),
        layer.Linear(256, 64),
        neuron.LIFNode(decay_input=False),
        layer.Linear(64, 10),
    )
    functional.set_step_mode(model, "m")
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)

    rule = aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=0.1))
    learner = aplysia.adopt(model, rule, optimiser=optimiser, loss=loss, example=(x[:32], y[:32]), forward=forward)
    print(learner.report)
    for _ in range(12):
        for rows in torch.randperm(len(y)).split(32):
            learner.update(x[rows], y[rows])
    model = learner.release()

    with torch.no_grad():
        accuracy = (forward(model, test_x).mean(0).argmax(1) == test_y).double().mean()
    print(f"test accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
