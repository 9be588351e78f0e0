"""A snnTorch model learns by frozen backpropagation: three lines more than its own training loop.

    python examples/snntorch_frozen.py

Needs snntorch: pip install 'aplysia[peers]'. Takes some ten seconds.
"""

import snntorch as snn
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import aplysia
from aplysia.data.digits import Digits


class Model(nn.Module):
    """As snnTorch's tutorials write it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(64, 128), snn.Leaky(beta=0.5)
        self.fc2, self.lif2 = nn.Linear(128, 64), snn.Leaky(beta=0.5)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.lif1.init_leaky(), self.lif2.init_leaky()
        outs = []
        for _ in range(6):
            spikes, one = self.lif1(self.fc1(x), one)
            spikes, two = self.lif2(self.fc2(spikes), two)
            outs.append(self.fc3(spikes))
        return torch.stack(outs)


def loss(output: Tensor, target: Tensor) -> Tensor:
    return cross_entropy(output.mean(0), target)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # a net this small gains nothing from a second
    digits = Digits().load()
    (x, y), (test_x, test_y) = (((s.inputs * digits.scale).flatten(1), s.labels) for s in (digits.train, digits.test))
    model = Model()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)

    rule = aplysia.rules.FrozenBackprop(interval=100)  # feedback weights stand still, and are copied every 100 updates
    learner = aplysia.adopt(model, rule, optimiser=optimiser, loss=loss, example=(x[:32], y[:32]))
    print(learner.report)
    for _ in range(15):
        for rows in torch.randperm(len(y)).split(32):
            learner.learn(x[rows], y[rows])  # in place of loss(model(x), y).backward()
            optimiser.step()
            learner.after()
    model = learner.release()

    with torch.no_grad():
        accuracy = (model(test_x).mean(0).argmax(1) == test_y).double().mean()
    of_bp = learner.cost.words / (learner.steps * sum(weight.weight.numel() for weight in learner.net.fed_back))
    print(f"test accuracy {accuracy:.1%}, {of_bp:.1%} of the weight words that backpropagation would have moved")


if __name__ == "__main__":
    main()
