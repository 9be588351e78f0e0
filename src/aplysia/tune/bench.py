"""Trials handed out and taken back: the one place that knows Optuna.

All processes of a search share one data base and one folder. A trial is trained under the lock of its run folder, so a running
trial whose lock is free was left by a process that ended; it is taken up again where its run stands. Which values a trial gets
is a function of the seed, its number, and the trials that were through by then, whatever process asks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aplysia.errors import RunError
from aplysia.train.recipe import Recipe
from aplysia.tune.lock import Lock, guarded
from aplysia.tune.plan import Contender, Plan

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

# Trials of a rule that are drawn at random before its sampler learns from them, and before any is pruned.
STARTUP = 5
# How often a trial is begun or taken up when its process is killed.
TRIES = 2
_TRIES, _WHY = "tries", "why"


def optuna() -> ModuleType:
    """The package, which only a search needs."""
    try:
        import optuna
    except ImportError:
        raise RunError(
            "aplysia tune", expected="the package optuna", got="none", fix="install it by pip install 'aplysia[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@dataclass(frozen=True)
class Outcome:
    """A trial as the data base has it.

    Attributes:
        rule: it belongs to.
        number: counted from 0.
        state: done, pruned, failed or running.
        accuracy: held out, at the end; of a pruned trial in its last epoch; 0 where weights ran away; None: not known.
        values: of the keys searched.
        epochs: that were trained.
        why: it failed.
    """

    rule: str
    number: int
    state: str
    accuracy: float | None
    values: Mapping[str, float]
    epochs: int
    why: str = ""


class Job:
    """A trial in hand; ends with one of its verbs.

    Attributes:
        contender: whose trial it is.
        number: counted from 0.
        values: of the keys searched.
        recipe: to train.
        path: of its run folder.
    """

    def __init__(self, plan: Plan, contender: Contender, trial: Trial, lock: Lock, path: Path) -> None:
        self.contender, self.number, self.path = contender, trial.number, path
        self._plan, self._trial, self._lock = plan, trial, lock
        self._tries = trial.user_attrs.get(_TRIES, 0) + 1
        trial.set_user_attr(_TRIES, self._tries)
        self.values = {key: _suggested(trial, key, contender) for key in contender.space}
        self.recipe: Recipe = contender.tried(self.values, plan.budget)
        self._reported = set(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        self.cut = False

    @property
    def label(self) -> str:
        """How it is called in messages."""
        return f"{self.contender.name} {self.number}"

    def watch(self, metrics: Mapping[str, Any]) -> bool:
        """Report an epoch; whether the trial is to end there."""
        epoch = int(metrics["epoch"])
        if epoch not in self._reported:
            self._trial.report(float(metrics["val_accuracy"]), epoch)
        self.cut = self._plan.budget.pruning and epoch < self._plan.budget.epochs and self._trial.should_prune()
        return self.cut

    def done(self, accuracy: float) -> None:
        """It went to its end."""
        self._tell(values=accuracy)

    def pruned(self) -> None:
        """It was not worth going on."""
        self._tell(state=optuna().trial.TrialState.PRUNED)

    def ran_away(self, why: str) -> None:
        """Its weights did: an outcome of these settings, worth nothing."""
        self._trial.set_user_attr(_WHY, why)
        self._tell(values=0.0)

    def leave(self) -> None:
        """Stopped by somebody's wish and saved: whoever comes next takes it up."""
        self._trial.set_user_attr(_TRIES, self._tries - 1)
        self._lock.release()

    def _tell(self, **what: Any) -> None:
        self._trial.study.tell(self._trial.number, **what)
        self._lock.release()


class Bench:
    """The studies of a search, one for each rule.

    Args:
        plan: the search.
        out: its folder.
        storage: URL of the data base; None: a file of SQLite in the folder.
    """

    def __init__(self, plan: Plan, out: Path, storage: str | None) -> None:
        self.plan, self._out = plan, out
        package = optuna()
        url = storage or f"sqlite:///{(out / 'study.db').resolve()}"
        # Two processes that write to one file of SQLite wait for each other, a minute at most.
        options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        with self._guard():
            try:
                self._storage = package.storages.RDBStorage(url, engine_kwargs=options)
            except Exception as error:  # of SQLAlchemy, of the driver, or the driver is not there
                raise RunError(
                    f"--storage {url}",
                    expected="a data base Optuna can open",
                    got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
                    fix="check the URL, or leave it out",
                ) from error
            self._studies = {one.name: self._study(package, one) for one in plan.contenders}

    def close(self) -> None:
        """Let go of the data base."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def take(self) -> Job | None:
        """The next trial: one that a process left, else a new one of the rule that has fewest; None where nothing is left."""
        with self._guard():
            return self._left() or self._new()

    def outcomes(self) -> list[Outcome]:
        """Every trial so far, rule by rule."""
        return [
            _outcome(name, trial)
            for name, study in self._studies.items()
            for trial in study.get_trials(deepcopy=False)
            if trial.state.name != "WAITING"
        ]

    def _guard(self) -> Any:
        return guarded(self._out / ".lock")

    def _study(self, package: ModuleType, one: Contender) -> Study:
        plan, budget = self.plan, self.plan.budget
        # Epochs count from 1; the first quarter of them is left alone.
        study = package.create_study(
            storage=self._storage,
            study_name=f"{plan.name} {one.name} {plan.token}",
            direction="maximize",
            pruner=package.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=budget.epochs // 4 + 1),
            load_if_exists=True,
        )
        if not study.get_trials(deepcopy=False) and (start := one.start()):
            study.enqueue_trial(start)
        return study

    def _path(self, one: Contender, number: int) -> Path:
        return self._out / one.slug / f"trial-{number:03}"

    def _left(self) -> Job | None:
        for one in self.plan.contenders:
            study = self._studies[one.name]
            for frozen in study.get_trials(deepcopy=False):
                if frozen.state.name != "RUNNING" or (lock := self._lock(one, frozen.number)) is None:
                    continue
                if frozen.user_attrs.get(_TRIES, 0) < TRIES:
                    return self._job(one, _trial(study, frozen), lock)
                _trial(study, frozen).set_user_attr(_WHY, f"its process was killed {TRIES} times")
                study.tell(frozen.number, state=optuna().trial.TrialState.FAIL)
                lock.release()
        return None

    def _new(self) -> Job | None:
        begun = {
            one.name: sum(t.state.name != "WAITING" for t in self._studies[one.name].get_trials(deepcopy=False))
            for one in self.plan.contenders
        }
        one = min(self.plan.contenders, key=lambda one: begun[one.name])
        if begun[one.name] >= self.plan.budget.trials:
            return None
        trial = self._studies[one.name].ask()
        lock = self._lock(one, trial.number)
        assert lock is not None, "a trial of this number was never handed out"
        return self._job(one, trial, lock)

    def _lock(self, one: Contender, number: int) -> Lock | None:
        return Lock.take(self._path(one, number) / ".lock")

    def _job(self, one: Contender, trial: Trial, lock: Lock) -> Job:
        # Values are drawn only now, by a generator of this trial's own; numbers alike start alike for every rule.
        text = f"{self.plan.budget.seed}/{trial.number}".encode()
        seed = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")
        trial.study.sampler = optuna().samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)
        return Job(self.plan, one, trial, lock, self._path(one, trial.number))


def _trial(study: Study, frozen: FrozenTrial) -> Trial:
    """The handle of a trial that is under way; Optuna gives it only to whoever began it."""
    from optuna.trial import Trial

    return Trial(study, frozen._trial_id)


def _suggested(trial: Trial, key: str, contender: Contender) -> float:
    interval = contender.space[key]
    if interval.whole:
        return trial.suggest_int(key, int(interval.low), int(interval.high), log=interval.log)
    return trial.suggest_float(key, interval.low, interval.high, log=interval.log)


def _outcome(rule: str, trial: FrozenTrial) -> Outcome:
    state, why = trial.state.name, str(trial.user_attrs.get(_WHY, ""))
    told = {"COMPLETE": "failed" if why else "done", "PRUNED": "pruned", "FAIL": "failed"}.get(state, "running")
    accuracy = trial.intermediate_values.get(trial.last_step or 0) if state == "PRUNED" else trial.value
    return Outcome(rule, trial.number, told, accuracy, dict(trial.params), trial.last_step or 0, why)
