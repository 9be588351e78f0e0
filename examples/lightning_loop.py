"""A rule inside a Lightning module: manual optimisation, a rate that decays, logging and checkpoints.

    python examples/lightning_loop.py

Needs lightning: pip install lightning. Takes some ten seconds.
"""

import tempfile
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import aplysia
from aplysia.data.digits import Digits


class Spiking(pl.LightningModule):
    """A net, and a learner in place of `loss.backward()`."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = aplysia.build("F128-F10", input_shape=shape)

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)
        self.learner = aplysia.Learner(self.net, rule=aplysia.rules.DirectKolenPollack(), optimiser=optimiser)
        return [optimiser], [torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.9)]

    def training_step(self, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        record = self.learner.learn(aplysia.Held(x, steps=6), y)
        self.clip_gradients(self.optimizers(), gradient_clip_val=5.0, gradient_clip_algorithm="norm")
        self.optimizers().step()
        self.learner.after()
        self.log("loss", record.loss, prog_bar=True)

    def on_train_epoch_end(self) -> None:
        self.lr_schedulers().step()

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        answers, _ = self.net.predict(aplysia.Held(x, steps=6))
        self.log("accuracy", (answers.argmax(1) == y).float().mean(), prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["learner"] = self.learner.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.learner.load_state_dict(checkpoint["learner"])


def main() -> None:
    pl.seed_everything(0, verbose=False)
    torch.set_num_threads(1)  # a net this small gains nothing from a second
    digits = Digits().load()
    train, test = (
        DataLoader(TensorDataset(split.inputs * digits.scale, split.labels), batch_size=size, shuffle=size < 355)
        for split, size in ((digits.train, 32), (digits.test, 355))
    )
    with tempfile.TemporaryDirectory() as folder:
        module = Spiking(digits.shape)
        trainer = pl.Trainer(max_epochs=8, accelerator="auto", default_root_dir=folder, logger=False)
        trainer.fit(module, train, test)
        trainer.save_checkpoint(f"{folder}/last.ckpt")
        accuracy = float(trainer.callback_metrics["accuracy"])
    print(f"test accuracy {accuracy:.1%} after {module.learner.steps} updates")


if __name__ == "__main__":
    main()
