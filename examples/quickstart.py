"""A spiking net learns the shipped digits by direct feedback, in a loop of one's own.

    python examples/quickstart.py

Takes a few seconds.
"""

import torch

import aplysia
from aplysia.data.digits import Digits

torch.manual_seed(0)
torch.set_num_threads(1)  # a net this small gains nothing from a second
digits = Digits().load()
images, labels = digits.train.inputs * digits.scale, digits.train.labels
net = aplysia.build("F128-F10", input_shape=digits.shape)
optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
learner = aplysia.Learner(net, rule=aplysia.rules.DirectFeedback(), optimiser=optimiser)

for epoch in range(8):
    for rows in torch.randperm(len(labels)).split(32):
        learner.learn(aplysia.Held(images[rows], steps=6), labels[rows])  # fills .grad
        optimiser.step()
        learner.after()  # the rule's own upkeep
    answers, _ = net.predict(aplysia.Held(digits.test.inputs * digits.scale, steps=6))
    print(f"epoch {epoch + 1}: test accuracy {(answers.argmax(1) == digits.test.labels).double().mean():.1%}")
