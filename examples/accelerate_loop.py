"""A rule inside an Accelerate loop, with gradients gathered over two batches and checkpoints.

    python examples/accelerate_loop.py

Needs accelerate: pip install accelerate. Takes some ten seconds.
"""

import tempfile

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

import aplysia
from aplysia.data.digits import Digits


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # a net this small gains nothing from a second
    digits = Digits().load()
    accelerator = Accelerator(gradient_accumulation_steps=2)
    net = aplysia.build("F128-F10", input_shape=digits.shape)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    samples = TensorDataset(digits.train.inputs * digits.scale, digits.train.labels)
    net, optimiser, loader = accelerator.prepare(net, optimiser, DataLoader(samples, batch_size=32, shuffle=True))

    learner = aplysia.Learner(net, rule=aplysia.rules.FeedbackAlignment(), optimiser=optimiser)
    accelerator.register_for_checkpointing(learner)  # what the rule owns is saved with the rest
    for _ in range(10):
        for x, y in loader:
            with accelerator.accumulate(net):
                learner.learn(aplysia.Held(x, steps=6), y)  # in place of accelerator.backward(loss)
                optimiser.step()
                if accelerator.sync_gradients:
                    learner.after()  # and clears the gradients

    with tempfile.TemporaryDirectory() as folder:
        accelerator.save_state(folder)
        accelerator.load_state(folder)
    answers, _ = net.predict(aplysia.Held((digits.test.inputs * digits.scale).to(accelerator.device), steps=6))
    accuracy = (answers.argmax(1).cpu() == digits.test.labels).double().mean()
    print(f"test accuracy {accuracy:.1%} after {learner.steps} updates of two batches each")


if __name__ == "__main__":
    main()
