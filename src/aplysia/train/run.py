"""A run: a recipe in, a folder out. Everything that touches files, signals and the screen while training stands here."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aplysia.data.base import Bundle, Split
from aplysia.data.loader import Loader
from aplysia.data.root import data_root
from aplysia.data.splits import channel_statistics, part_of, train_validation
from aplysia.errors import RunError
from aplysia.nets.net import Input
from aplysia.ops.backend import compiler_problem, kernels
from aplysia.ops.memory import kept_memory
from aplysia.plugins import name_of
from aplysia.ranks import alone, present
from aplysia.rng import generator
from aplysia.train.alignment import measure
from aplysia.train.card import write_card
from aplysia.train.codec import encode
from aplysia.train.folder import RunFolder, flatten, unflatten
from aplysia.train.health import check_finite, silent_layers
from aplysia.train.learner import Learner
from aplysia.train.ledger import run_ledger
from aplysia.train.log import Events, Progress
from aplysia.train.provenance import now, peak_memory_bytes, provenance
from aplysia.train.recipe import AXES, Recipe
from aplysia.train.trainer import Hooks, Position, Tally, Trainer, evaluate
from aplysia.train.weights import load_weights
from aplysia.types import Cost
from aplysia.version import __version__

# One object per measurement, see `aplysia.train.alignment`.
ALIGNMENT = "alignment.jsonl"

# Compiling the scan costs a fresh process 20 to 40 s and saves about 5 ns per neuron and step on a CPU.
_COMPILE_FROM = 4e9

# Seconds between two checkpoints inside an epoch, and between those at the ends of short epochs.
_INSIDE, _BETWEEN = 60.0, 10.0


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or `Run.watch`: the run was saved and can go on."""


@dataclass
class Run:
    """One recipe being trained into one folder.

    Attributes:
        recipe: what to train.
        folder: where to.
        device: on what.
        data: root of the data sets.
        progress: what the user sees.
        watch: called with each epoch's metrics; True ends the run there, saved.
        summary: what `summary.json` holds, once `execute` is through.
    """

    recipe: Recipe
    folder: RunFolder
    device: torch.device
    data: Path | None = None
    progress: Progress | None = None
    watch: Callable[[Mapping[str, Any]], bool] | None = None
    summary: dict[str, Any] = field(default_factory=dict)

    def execute(self) -> dict[str, Any]:
        """Train to the end, going on from the last checkpoint if there is one; the summary.

        Raises:
            Interrupted: stopped by a signal or by `watch`, everything saved.
            AplysiaError: anything a user can mend.
        """
        # Saturated units and confident outputs make errors of 1e-40: nothing to a sum, but denormal numbers slow a matrix
        # product on a CPU down two times. Set before the first product, since worker threads take it over when they start.
        torch.set_flush_denormal(True)
        try:
            return self._execute()
        finally:
            torch.set_flush_denormal(False)

    def _execute(self) -> dict[str, Any]:
        recipe, ranks = self.recipe, present()
        progress = self.progress or Progress(recipe.epochs, shown=ranks.main)
        with ranks.in_turn():  # what is fetched or cached is fetched once
            bundle = recipe.data.load(data_root(self.data), steps=recipe.steps)
        trainer, test = self._trainer(bundle)
        resumed = self._restore(trainer)
        self.folder.write_json("recipe.json", encode(recipe, AXES))
        facts = provenance(self.device) | {"caveat": bundle.caveat, "resumed_at": resumed, "processes": ranks.size}
        since = trainer.position.epoch + 1 if resumed else None
        with (
            self._kernels(trainer, progress) as compiled,
            progress,
            contextlib.closing(Events(self.folder.path, since=since, written=ranks.main)) as events,
        ):
            self.folder.write_json("run.json", facts | {"compiled_kernels": compiled})
            if bundle.caveat:
                progress.note(f"data: {bundle.caveat}")
            if resumed:
                progress.note(f"resumed at {resumed}")
            self._probe(trainer)
            self._train(trainer, progress, events)
            tested = evaluate(trainer.learner, test, recipe.encoder, recipe.steps, recipe.seed)
            if trainer.learner.rule.noise.alpha > 0.0:
                noisy = evaluate(trainer.learner, test, recipe.encoder, recipe.steps, recipe.seed, noisy=True)
                tested["noisy_accuracy"] = noisy["accuracy"]
            if (endless := trainer.learner.temporal.endless()) is not None:
                far = evaluate(trainer.learner, test, recipe.encoder, recipe.steps, recipe.seed, scheme=endless)
                tested |= {"limit_accuracy": far["accuracy"], "limit_loss": far["loss"]}
        if not ranks.main:
            return {}
        last = self.folder.metrics()[-1]
        self.folder.save_model(dict(trainer.learner.net.state_dict()), self._notes(trainer))
        self.summary = self._summary(trainer, tested, last)
        self.folder.write_json("ledger.json", self.ledger(trainer))
        self.folder.write_json("run.json", facts | {"compiled_kernels": compiled, "finished": now()})
        self.folder.write_json("summary.json", self.summary)
        write_card(self.folder.path)
        return self.summary

    def _notes(self, trainer: Trainer) -> dict[str, Any]:
        """What makes a net that runs of its weights: `aplysia.load` reads it."""
        shape = list(trainer.learner.net.input_shape)
        return {"recipe": encode(self.recipe, AXES), "shape": shape, "version": __version__, **trainer.train.scaling}

    def restored(self) -> Trainer:
        """The trainer as the last checkpoint left it."""
        bundle = self.recipe.data.load(data_root(self.data), steps=self.recipe.steps)
        trainer, _ = self._trainer(bundle)
        self._restore(trainer)
        return trainer

    def ledger(self, trainer: Trainer) -> dict[str, Any]:
        """What one batch costs at the end of the run, and what was moved in all."""
        recipe = self.recipe
        x, target = self.ledger_batch(trainer)
        with kernels(compiled=False), alone():
            return run_ledger(
                trainer.learner,
                x,
                target,
                input_real=recipe.encoder.real,
                samples=trainer.position.samples,
                state_bytes=recipe.optimiser.state_bytes,
            )

    def ledger_batch(self, trainer: Trainer) -> tuple[Input, Tensor]:
        """The first training samples, as the net gets them."""
        recipe = self.recipe
        images, target = trainer.train.first(recipe.batch_size)
        return recipe.encoder(images, recipe.steps, generator(images.device, recipe.seed, "ledger")), target

    def _trainer(self, bundle: Bundle) -> tuple[Trainer, Loader]:
        recipe = self.recipe
        train, validation = bundle.train, None
        if recipe.train_samples is not None:
            train = part_of(train, recipe.train_samples)
        if recipe.validation > 0.0:
            train, validation = train_validation(train, recipe.validation, recipe.seed)
        net = recipe.build_net(bundle).to(self.device)
        if recipe.weights is not None and not self.folder.has_checkpoint:
            load_weights(net, recipe.weights)
        learner = Learner(
            net,
            rule=recipe.build_rule(),
            optimiser=recipe.optimiser.build(net.parameters(), seed=recipe.seed),
            temporal=recipe.temporal,
            loss=recipe.loss,
            clip=recipe.clip,
            seed=recipe.seed,
        )

        mean, std = channel_statistics(train, bundle.scale) if recipe.normalise else (None, None)

        def loader(split: Split, size: int, **options: Any) -> Loader:
            on_device = split.to(self.device)
            return Loader(on_device, size, seed=recipe.seed, scale=bundle.scale, mean=mean, std=std, **options)

        def plain(split: Split) -> Loader:
            return loader(split, max(256, recipe.batch_size), shuffle=False)

        batches = loader(train, recipe.batch_size, augmentations=recipe.augment)
        trainer = Trainer(
            learner,
            batches,
            None if validation is None else plain(validation),
            recipe.encoder,
            recipe.steps,
            recipe.schedule,
            recipe.epochs,
            recipe.seed,
        )
        return trainer, plain(bundle.test)

    @contextlib.contextmanager
    def _kernels(self, trainer: Trainer, progress: Progress) -> Iterator[bool]:
        """Compiled kernels where asked for, or where the run is long enough to pay for compiling; says which."""
        recipe = self.recipe
        neurons = sum(layer.units for layer in trainer.learner.net.all)
        work = len(trainer.train.split) * recipe.epochs * recipe.steps * neurons
        wanted = recipe.compiled if recipe.compiled is not None else work > _COMPILE_FROM
        with contextlib.ExitStack() as stack:
            if wanted and (problem := compiler_problem()):
                progress.warn(f"kernels: eager, which computes the same, slower, since there is {problem}")
                wanted = False
            compiled = stack.enter_context(kernels(compiled=wanted))
            stack.enter_context(kept_memory())
            if compiled:
                progress.note("kernels: compiled (the first step takes a while)")
            yield compiled

    def _probe(self, trainer: Trainer) -> None:
        """Have the alignment measured where the recipe asks for it."""
        recipe, learner = self.recipe, trainer.learner
        self.folder.trim(ALIGNMENT, "step", learner.steps)
        if recipe.probe is None or not present().main:
            return
        images, target = trainer.train.first(recipe.probe_samples)
        x = recipe.encoder(images, recipe.steps, generator(images.device, recipe.seed, "probe"))

        def look() -> None:
            assert recipe.probe is not None
            step = learner.steps + 1
            if step % recipe.probe == 0:
                with alone():
                    self.folder.append(ALIGNMENT, {"step": step, "layers": measure(learner, x, target)})

        learner.before_upkeep = look

    def _train(self, trainer: Trainer, progress: Progress, events: Events) -> None:
        net, ranks, saved = trainer.learner.net, present(), time.monotonic()
        before = (trainer.position.samples, trainer.position.seconds)

        def save() -> None:
            nonlocal saved
            self._save(trainer)
            saved = time.monotonic()

        def start_epoch(epoch: int, batch: int) -> None:
            progress.start_epoch(epoch + 1, len(trainer.train), batch)

        # Reading a number from a GPU makes it wait, so there only every 20th batch is looked at.
        look = 1 if self.device.type == "cpu" else 20

        def after_batch(samples: int, loss: Tensor, accuracy: Tensor) -> bool:
            looks = trainer.position.batch % look == 0
            if looks:
                progress.step(samples, float(loss), float(accuracy))
            else:
                progress.step(samples)
            if ranks.size > 1 and not looks:
                return False
            # Processes that train together have to stop, and to save, after the same batch.
            stop, due = ranks.agree(stopped(), ranks.main and time.monotonic() - saved > _INSIDE)
            if due and not stop:
                save()
            return stop

        def after_epoch(epoch: int, metrics: dict[str, Any]) -> None:
            nonlocal before
            now_at = (trainer.position.samples, trainer.position.seconds)
            metrics["seconds"] = now_at[1] - before[1]
            metrics["samples_per_second"] = (now_at[0] - before[0]) / max(1e-9, metrics["seconds"])
            before = now_at
            self.folder.append_metrics(metrics)
            events.scalars(epoch + 1, _scalars(metrics))
            progress.end_epoch(metrics)
            for sentence in silent_layers(net, metrics["rates"]):
                progress.warn(sentence)
            enough, due = ranks.agree(
                self.watch is not None and self.watch(metrics), ranks.main and time.monotonic() - saved > _BETWEEN
            )
            if enough or due or epoch + 1 == self.recipe.epochs:
                save()
            if enough:
                raise Interrupted

        with _signals() as stopped:
            done = trainer.run(Hooks(start_epoch, after_batch, after_epoch))
            if not done or (ranks.agree(stopped())[0] and trainer.position.epoch < self.recipe.epochs):
                save()
                raise Interrupted

    def _save(self, trainer: Trainer) -> None:
        learner = trainer.learner
        tally = None if trainer.tally is None else trainer.tally.everywhere()
        if not present().main:
            return
        check_finite(learner.net, torch.zeros(()), "before a checkpoint")
        optimiser_tensors, optimiser_meta = flatten(learner.optimiser.state_dict(), "optimiser")
        tensors = {f"net/{k}": v for k, v in learner.net.state_dict().items()}
        tensors |= {f"rule/{k}": v for k, v in learner.rule.tensors.items()} | optimiser_tensors
        tensors |= {f"temporal/{k}": v for k, v in learner.temporal.memory.items()}
        if tally is not None:
            tensors |= {f"tally/{k}": v for k, v in tally.tensors().items()}
        self.folder.save_checkpoint(
            tensors,
            {
                "position": asdict(trainer.position),
                "epoch": trainer.position.epoch,
                "steps": learner.steps,
                "cost": asdict(learner.cost),
                "tally_samples": None if tally is None else tally.samples,
                "optimiser": optimiser_meta,
            },
        )

    def _restore(self, trainer: Trainer) -> str | None:
        """Put the trainer where the last checkpoint left it; says where, or None at the very start."""
        if not self.folder.has_checkpoint:
            self.folder.trim_metrics(0)
            return None
        tensors, meta = self.folder.load_checkpoint()
        learner = trainer.learner

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        try:
            learner.net.load_state_dict(part("net/"))
            learner.rule.load_tensors({k: v.to(self.device) for k, v in part("rule/").items()})
            learner.temporal.memory.update({k: v.to(self.device) for k, v in part("temporal/").items()})
            learner.optimiser.load_state_dict(unflatten(tensors, meta["optimiser"]))
        except (RuntimeError, ValueError, KeyError) as problem:
            raise RunError(
                str(self.folder.path),
                expected="a checkpoint of this recipe",
                got=str(problem).splitlines()[0],
                fix="resume with the recipe and version the run was started with, or start a new run with --out",
            ) from problem
        learner.steps, learner.cost = meta["steps"], Cost(**meta["cost"])
        trainer.position = Position(**meta["position"])
        if meta["tally_samples"] is not None and present().main:
            sums = {k: v.to(self.device) for k, v in part("tally/").items()}
            trainer.tally = Tally(**sums, samples=meta["tally_samples"])
        self.folder.trim_metrics(trainer.position.epoch)
        return f"epoch {trainer.position.epoch + 1}, batch {trainer.position.batch + 1}"

    def _summary(self, trainer: Trainer, tested: dict[str, Any], last: dict[str, Any]) -> dict[str, Any]:
        recipe, learner, position = self.recipe, trainer.learner, trainer.position
        fed_back = [layer.weight for layer in learner.net.fed_back]
        words_bp = learner.steps * sum(weight.numel() for weight in fed_back)
        bits_bp = learner.steps * sum(weight.numel() * torch.finfo(weight.dtype).bits for weight in fed_back)
        cost = learner.cost
        bits = None if cost.bits is None or cost.address_bits is None else cost.bits + cost.address_bits
        # Not every rule says what it remembers on the forward side.
        memory = getattr(learner.rule, "memory_words", None)
        return {
            "status": "finished",
            "recipe": recipe.name,
            "rule": axis_name(recipe.rule),
            "neuron": axis_name(recipe.neuron),
            "temporal": axis_name(recipe.temporal),
            "data": recipe.data.name,
            "seed": recipe.seed,
            "epochs": recipe.epochs,
            "parameters": sum(p.numel() for p in learner.net.parameters()),
            "test_accuracy": tested["accuracy"],
            "test_loss": tested["loss"],
            "noisy_test_accuracy": tested.get("noisy_accuracy"),
            "limit_test_accuracy": tested.get("limit_accuracy"),
            "limit_test_loss": tested.get("limit_loss"),
            "train_accuracy": last["train_accuracy"],
            "val_accuracy": last.get("val_accuracy"),
            "rates": tested["rates"],
            "seconds": position.seconds,
            "samples_per_second": position.samples / max(1e-9, position.seconds),
            "peak_memory_bytes": peak_memory_bytes(self.device),
            "transport": {
                "events": cost.events,
                "words": cost.words,
                "bits": cost.bits,
                "address_bits": cost.address_bits,
                "words_bp": words_bp,
                "reduction": words_bp / cost.words if cost.words else None,
                "bits_bp": bits_bp,
                "reduction_bits": bits_bp / bits if bits else None,
                "extra_memory_words": None if memory is None else memory(learner.net),
                "feedback_writes": cost.writes,
            },
        }


def axis_name(part: Any) -> str:
    """The name a part has on the command line."""
    base = next(base for base in AXES if isinstance(part, base))
    return name_of(type(part), AXES[base], base)


def _scalars(metrics: dict[str, Any]) -> dict[str, float]:
    flat = {k: v for k, v in metrics.items() if isinstance(v, int | float) and k != "epoch"}
    flat |= {f"rate/{name}": rate for name, rate in metrics["rates"].items()}
    return {k: v for k, v in flat.items() if math.isfinite(v)}


@contextlib.contextmanager
def _signals() -> Iterator[Any]:
    """Turn the first Ctrl-C or SIGTERM into a flag, so that a batch is finished and saved; a second one is final."""
    seen: list[int] = []

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        signal.signal(number, before[number])

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        before: dict[int, Any] = {number: signal.signal(number, note) for number in numbers}
    except ValueError:  # not the main thread: signals are someone else's business
        yield lambda: False
        return
    try:
        yield lambda: bool(seen)
    finally:
        for number in numbers:
            signal.signal(number, before[number])
