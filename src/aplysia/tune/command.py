"""`aplysia tune`: what is asked for, the processes that search, and what is printed and written in the end."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path

import torch

from aplysia.credit.contract import AbstractSpatial
from aplysia.errors import AplysiaError, RecipeError, RunError
from aplysia.grid.pool import deaf, stopping
from aplysia.plugins import catalogue
from aplysia.recipes import find
from aplysia.train.codec import override
from aplysia.train.folder import RunFolder
from aplysia.train.log import table as print_table
from aplysia.train.recipe import AXES, Recipe
from aplysia.train.run import axis_name
from aplysia.tune.bench import TRIES, Bench, optuna
from aplysia.tune.lock import guarded
from aplysia.tune.plan import Budget, Contender, Plan, joined, load
from aplysia.tune.record import COLUMNS, footnotes, lines, standings, write
from aplysia.tune.space import ALL, default_space, fitted, parse_search, read_spaces
from aplysia.tune.worker import search, serve

FAILED, INTERRUPTED = 1, 130
DEFAULT_SEED, DEFAULT_VALIDATION = 100, 0.25


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asked for.

    Attributes:
        name: of the recipe, or its path.
        trials: per rule.
        settings: `--set`, for every rule.
        rules: as written, separated by commas; None: the recipe's, or those of the search that is gone on with.
        space: TOML file of intervals.
        search: `KEY=LOW:HIGH[:log]`, for every rule.
        seed, samples, epochs, validation, pruning: see `aplysia.tune.plan.Budget`.
        data: root of the data sets.
        out: folder of the search.
        storage: URL of the data base.
        jobs: processes.
        device: as torch writes it.
    """

    name: str
    trials: int
    settings: tuple[str, ...] = ()
    rules: str | None = None
    space: Path | None = None
    search: tuple[str, ...] = ()
    seed: int = DEFAULT_SEED
    samples: int | None = None
    epochs: int | None = None
    validation: float = DEFAULT_VALIDATION
    pruning: bool = True
    data: Path | None = None
    out: Path | None = None
    storage: str | None = None
    jobs: int = 1
    device: str = "cpu"

    def recipe(self) -> Recipe:
        """The recipe with the settings applied."""
        return override(find(self.name), list(self.settings), AXES)

    def folder(self, recipe: Recipe) -> Path:
        """Where the search is."""
        return (self.out or Path("runs") / "tune" / recipe.name).expanduser()


def tune(request: Request) -> int:
    """Search until every rule has its trials, write and print what was found; the exit code."""
    optuna()
    if request.jobs < 1:
        raise RecipeError("--jobs", expected="at least 1", got=str(request.jobs), fix="leave it out")
    recipe = request.recipe()
    out = request.folder(recipe)
    begun = load(out)
    asked = planned(request, recipe, begun)
    _check_storage(request, out)
    RunFolder.create(out, resume=False)  # whether it can be written, and holds no run, is said before any training
    with guarded(out / ".lock"):
        begun = load(out)
        plan = asked if begun is None else joined(begun, asked, out)
        if begun is None:
            write(plan, (), out)
    bench = Bench(plan, out, request.storage)
    try:
        with guarded(out / ".lock"):
            write(plan, bench.outcomes(), out)
        print(_announced(plan, out))
        through = _searched(request, bench, out)
        with guarded(out / ".lock"):
            plan = load(out) or plan  # another process may have asked for more meanwhile
            outcomes = bench.outcomes()
            written = write(plan, outcomes, out)
    finally:
        bench.close()
    rows = standings(plan, outcomes)
    print()
    print_table(lines(rows), COLUMNS, f"What suits each rule on {plan.name}?")
    for note in footnotes(plan, rows, outcomes):
        print(note)
    print(f"\nwritten: {', '.join(str(out / name) for name in written)}")
    if not through:
        print(f"\nstopped and saved; go on with:  {_again(request)}", file=sys.stderr)
        return INTERRUPTED
    return FAILED if any(row.best is None for row in rows) else 0


def planned(request: Request, recipe: Recipe, begun: Plan | None = None) -> Plan:
    """The search that is asked for.

    Raises:
        RecipeError: an unknown rule or key, an interval that is empty or that the recipe does not take, no trials.
    """
    if request.space is not None and request.search:
        raise RecipeError("--search", expected="either --space or --search", got="both", fix="leave one out")
    known = catalogue(AXES[AbstractSpatial], AbstractSpatial)
    spaces = {} if request.space is None else read_spaces(request.space, known)
    given = parse_search(request.search) if request.search else spaces.get(ALL, {})
    budget = Budget(
        trials=request.trials,
        seed=request.seed,
        samples=request.samples,
        epochs=recipe.epochs if request.epochs is None else request.epochs,
        validation=request.validation,
        pruning=request.pruning,
    )
    contenders = []
    for name in _rules(request, begun):
        own = recipe if name is None else override(recipe, [f"rule={name}"], AXES)
        name = name or axis_name(recipe.rule)
        space = given | spaces.get(name, {})
        if not space and not request.search and request.space is None:
            space = default_space(own)
        one = Contender(name, own, fitted(space, own))
        low = {key: interval.low for key, interval in one.space.items()}
        one.tried(low, budget)  # what a recipe refuses is said now
        contenders.append(one)
    return Plan(contenders=tuple(contenders), budget=budget)


def _check_storage(request: Request, out: Path) -> None:
    """Trials without their data base would be handed out a second time."""
    own = (out / "study.db").exists()
    if own if request.storage else not own and any(out.glob("*/trial-*")):
        raise RunError(
            str(out),
            expected="the data base the search here was begun with",
            got=f"--storage {request.storage}, beside study.db" if own else "no --storage, and no study.db",
            fix="leave out --storage" if own else "repeat the --storage, or choose another --out",
        )


def _rules(request: Request, begun: Plan | None) -> list[str | None]:
    if request.rules is None:
        return [None] if begun is None else [one.name for one in begun.contenders]
    names = [name.strip() for name in request.rules.split(",") if name.strip()]
    if not names:
        raise RecipeError(
            "--rules", expected="names of rules", got="none", fix="write for example symmetric,direct_feedback"
        )
    return list(names)


def _searched(request: Request, bench: Bench, out: Path) -> bool:
    """Whether everything was gone through (False: a signal came)."""
    if request.jobs == 1:
        return search(
            bench, device=torch.device(request.device), data=request.data, say=lambda text: print(text, flush=True)
        )
    for _ in range(TRIES):
        through, killed = _processes(request, out)
        if not (through and killed):
            return through
    return True


def _processes(request: Request, out: Path) -> tuple[bool, bool]:
    """Search in several processes; whether no signal came, and whether one of them was killed."""
    context = get_context("spawn")
    pairs = []
    for _ in range(request.jobs):
        ours, theirs = context.Pipe(duplex=False)
        arguments = (theirs, out, request.storage, request.device, request.data)
        process = context.Process(target=serve, args=arguments)
        with deaf():
            process.start()
        theirs.close()
        pairs.append((process, ours))
    asked, wrong = False, None
    with stopping() as stop:
        while alive := [process for process, _ in pairs if process.is_alive()]:
            wrong = wrong or _mistake([connection for _, connection in pairs])
            if (stop() or wrong) and not asked:
                asked = True
                for process in alive:
                    process.terminate()
            wait([process.sentinel for process in alive], timeout=0.2)
    wrong = wrong or _mistake([connection for _, connection in pairs])
    codes = [process.exitcode or 0 for process, _ in pairs]
    if wrong:
        raise wrong
    if any(code > 0 for code in codes):
        raise SystemExit(FAILED)  # a bug of ours, whose traceback that process has printed
    return not asked, any(code < 0 for code in codes)


def _mistake(connections: list) -> AplysiaError | None:
    """What a process says the user can mend, if any does."""
    for connection in connections:
        try:
            if connection.poll():
                where, expected, got, fix = connection.recv()
                return RunError(where, expected=expected, got=got, fix=fix)
        except (EOFError, OSError):
            continue
    return None


def _announced(plan: Plan, out: Path) -> str:
    rules, trials = len(plan.contenders), plan.budget.trials
    return f"{plan.name}: {rules} rule{'s' * (rules != 1)} × {trials} trial{'s' * (trials != 1)} → {out}"


def _again(request: Request) -> str:
    """The command that goes on."""
    words = ["aplysia", "tune", request.name, "--trials", str(request.trials)]
    options = [("--rules", request.rules), ("--space", request.space), ("--samples", request.samples)]
    options += [
        ("--epochs", request.epochs),
        ("--data", request.data),
        ("--out", request.out),
        ("--storage", request.storage),
    ]
    options += [("--seed", request.seed if request.seed != DEFAULT_SEED else None)]
    options += [("--validation", request.validation if request.validation != DEFAULT_VALIDATION else None)]
    options += [("--jobs", request.jobs if request.jobs > 1 else None)]
    for option, value in options:
        words += [] if value is None else [option, str(value)]
    words += [word for text in request.search for word in ("--search", text)]
    words += [word for text in request.settings for word in ("--set", text)]
    words += [] if request.device == "cpu" else ["--device", request.device]
    words += [] if request.pruning else ["--no-prune"]
    return shlex.join(words)
