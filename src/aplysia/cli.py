"""The command line. It selects, checks and prints; everything it does can be done from Python.

No flag here sets a hyper-parameter: that is what `--set` is for, and it is checked against the recipe.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from aplysia.errors import AplysiaError, RecipeError, RunError, near

if TYPE_CHECKING:
    import torch

    from aplysia.ranks import Ranks
    from aplysia.train.folder import RunFolder
    from aplysia.train.recipe import Recipe

app = typer.Typer(
    help="Train spiking neural networks with learning rules a neuromorphic chip could run itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Fetch data sets, or check what is there.", no_args_is_help=True)
app.add_typer(data_app, name="data")

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A name that ships, path/to/file.py:function or path/to/recipe.json.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the recipe; may be repeated.")
]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Folder of the data sets; else $APLYSIA_DATA, else the user cache.")
]


@app.command()
def run(
    recipe: RecipeName,
    settings: Settings = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training set.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data: DataFolder = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; a new one under ./runs unless said.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, or with the last unfinished one.")
    ] = False,
) -> None:
    """Train a recipe: one command, one run folder. On N GPUs: torchrun --nproc-per-node N -m aplysia run RECIPE --out DIR."""
    from aplysia.ranks import join, launched
    from aplysia.train.run import Interrupted, Run

    changes = list(settings or [])
    changes += [f"{key}={value}" for key, value in (("seed", seed), ("epochs", epochs)) if value is not None]
    if launched() and out is None:
        raise RunError(
            "torchrun -m aplysia run",
            expected="--out, a folder that all processes see, so that restarted ones find the run",
            got="none",
            fix="name one, and give torchrun --max-restarts",
        )
    with join(_device(device)) as team:
        chosen, folder = _chosen(recipe, changes, out, resume, team)

        def say(text: str, *, err: bool = False) -> None:
            if team.main:
                typer.echo(text, err=err)

        if team.tell(folder.finished):
            say(f"{folder.path} is finished already; nothing to do.")
            return
        job = Run(chosen, folder, team.device or _device(device), data)
        beside = f", {team.size} processes" if team.size > 1 else ""
        say(f"{chosen.name} with {_rule(chosen)} on {chosen.data.name}, seed {chosen.seed}{beside} → {folder.path}")
        try:
            summary = job.execute()
        except Interrupted:
            where = f" --data {data}" if data else ""
            command = f"aplysia run {recipe} --resume --out {folder.path}{where}"
            say(f"\nstopped and saved; go on with:  {command}", err=True)
            raise typer.Exit(130) from None
        if team.main:
            say(f"test accuracy {summary['test_accuracy']:.2%}   ({folder.path}/summary.json)")


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="rules, temporal, neurons, recipes, tables, chips or data.")
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="With recipes: show every key that --set can change.")
    ] = None,
) -> None:
    """List what there is."""
    from aplysia.recipes import recipes
    from aplysia.tables import show_tables
    from aplysia.train.listing import listings

    known = listings(name, recipes()) | {"tables": show_tables}
    if what not in known:
        raise RecipeError("aplysia list", expected="a kind of thing", got=f"'{what}'", fix=near(what, known))
    known[what]()


@data_app.command("fetch")
def data_fetch(name: Annotated[str, typer.Argument(metavar="NAME")], data: DataFolder = None) -> None:
    """Download a data set and check it."""
    from aplysia.data.root import data_root
    from aplysia.train.listing import dataset

    chosen, root = dataset(name), data_root(data)
    paths = chosen.fetch(root)
    typer.echo(f"{name}: {len(paths)} files under {root}" if paths else f"{name}: nothing to fetch")


@data_app.command("check")
def data_check(name: Annotated[str, typer.Argument(metavar="NAME")], data: DataFolder = None) -> None:
    """Say which files of a data set are there and whole; exits non-zero when some are not."""
    from aplysia.data.root import data_root
    from aplysia.train.listing import check_dataset

    if not check_dataset(name, data_root(data)):
        raise typer.Exit(1)


@app.command()
def demo(
    seeds: Annotated[int, typer.Option(help="Seeds per rule.")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Keep run folders and report here; else the runs are thrown away.")
    ] = None,
) -> None:
    """Train every rule on the shipped digits and compare them: one table, one page, no network."""
    from aplysia.demo import run_demo

    run_demo(seeds=seeds, out=out)


@app.command()
def table(
    name: Annotated[str, typer.Argument(metavar="TABLE", help="A name that ships, or path/to/file.py:function.")],
    seeds: Annotated[
        str | None, typer.Option(help="0,1,2 or 0-4; 0,1,2 unless said, with --show all that are there.")
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option("--rows", metavar="PATTERN", help="Only these rows, * and ? allowed; may be repeated."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key of every row's recipe; may be repeated."),
    ] = None,
    data: DataFolder = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the cells; runs/tables/TABLE unless said.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes of one thread each; one a core unless said.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    show: Annotated[bool, typer.Option("--show", help="Train nothing: show what is there.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Copy summaries and table here, small enough to be committed.")
    ] = None,
    on: Annotated[
        str | None, typer.Option(metavar="ray[:ADDRESS]", help="Train on a Ray cluster; on this machine unless said.")
    ] = None,
    cpus: Annotated[
        int | None, typer.Option("--cpus-per-run", help="With --on ray: cores of a run, 1 unless said.")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option("--gpus-per-run", help="With --on ray: GPUs of a run; a fraction shares one.")
    ] = None,
) -> None:
    """Train a table of recipes over seeds, as far as it is missing, and print it beside the published values."""
    from aplysia.grid import command

    request = command.Request(
        name=name,
        settings=tuple(settings or ()),
        seeds=seeds,
        rows=tuple(rows or ()),
        data=data,
        out=out,
        jobs=jobs,
        device="cpu" if show else str(_device(device)),
        export=export,
        on=on,
        cpus=cpus,
        gpus=gpus,
    )
    if code := command.show(request) if show else command.make(request):
        raise typer.Exit(code)


@app.command()
def tune(
    recipe: RecipeName,
    trials: Annotated[int, typer.Option(help="Trials for each rule, those of earlier calls counted in.")],
    settings: Settings = None,
    rules: Annotated[
        str | None, typer.Option(help="Rules to search for, separated by commas; the recipe's own unless said.")
    ] = None,
    space: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Ranges: [all], and [RULE] for one rule more.")
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option("--search", metavar="KEY=LOW:HIGH[:log]", help="One range for every rule; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search and of every trial; best one no table uses.")] = 100,
    samples: Annotated[int | None, typer.Option(help="Training samples of a trial, held-out ones included.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a trial; the recipe's unless said.")] = None,
    validation: Annotated[float, typer.Option(help="Share of the samples that is held out to choose by.")] = 0.25,
    prune: Annotated[bool, typer.Option(help="End trials below the median of the rule's trials so far.")] = True,
    data: DataFolder = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the search; runs/tune/RECIPE unless said.")] = None,
    storage: Annotated[
        str | None, typer.Option(help="URL of a data base; a file of SQLite in --out unless said.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes of one thread each.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Search each rule's settings with the same number of trials, and write the best as recipes."""
    from aplysia.tune import command

    request = command.Request(
        name=recipe,
        trials=trials,
        settings=tuple(settings or ()),
        rules=rules,
        space=space,
        search=tuple(search or ()),
        seed=seed,
        samples=samples,
        epochs=epochs,
        validation=validation,
        pruning=prune,
        data=data,
        out=out,
        storage=storage,
        jobs=jobs,
        device=str(_device(device)),
    )
    if code := command.tune(request):
        raise typer.Exit(code)


@app.command()
def audit(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    data: DataFolder = None,
) -> None:
    """Count what one batch of a run costs in two independent ways; exits non-zero where they differ."""
    from aplysia.train.audit_command import show_audit

    if not show_audit(run, data):
        raise typer.Exit(1)


@app.command()
def cost(
    recipe: RecipeName,
    settings: Settings = None,
    chip: Annotated[
        list[str] | None, typer.Option("--chip", metavar="NAME", help="A chip, or my.toml; may be repeated.")
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option(help="Rules by commas, settings by colons: symmetric,frozen:interval=10; else its own."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Assumed spikes per hidden unit and step; 0.1 unless said.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="A finished run to take the rates from.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples per update; the recipe's unless said.")] = None,
    shape: Annotated[
        str | None, typer.Option("--input", metavar="C,H,W", help="Shape of a sample, where the data do not say.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="table, json or csv.")] = "table",
) -> None:
    """Say what one sample costs on chips, learning included, without training."""
    from aplysia.recipes import find
    from aplysia.train.codec import override
    from aplysia.train.cost_command import Request, show_cost
    from aplysia.train.recipe import AXES

    chosen = override(find(recipe), settings or [], AXES)
    show_cost(chosen, Request(tuple(chip or ()), rules, rate, run, batch, shape, form))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or folders with runs below them.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; report.html unless said.")] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="html, markdown or csv; what --out ends in, unless said.")
    ] = None,
    title: Annotated[
        str, typer.Option(help="The question; a table's, or what the recipes differ in, unless said.")
    ] = "",
    baseline: Annotated[
        str, typer.Option(metavar="ROW", help="Row to compare with; a table's, or backpropagation, unless said.")
    ] = "",
    chip: Annotated[
        str, typer.Option("--chip", metavar="NAME", help="A chip to price a trained sample on, or my.toml.")
    ] = "",
) -> None:
    """Put finished runs on one page: comparison, cost, curves, provenance. The file opens offline."""
    from aplysia.report import page_command

    page_command.report(page_command.Request(tuple(runs), out, form, title, baseline, chip))


@app.command()
def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
    write: Annotated[bool, typer.Option("--write", help="Write model_card.md into the run folder again.")] = False,
) -> None:
    """Print the model card of a run."""
    from aplysia.train.card import card as text
    from aplysia.train.card import write_card

    typer.echo(f"{write_card(run)} written" if write else text(run), nl=write)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run, or its model.safetensors.")],
    nir: Annotated[Path, typer.Option("--nir", metavar="FILE", help="File of NIR to write.")],
    reader: Annotated[
        str,
        typer.Option(
            "--for", metavar="LIBRARY", help="snntorch, spikingjelly or norse; NIR's own equations unless said."
        ),
    ] = "nir",
    dt: Annotated[float | None, typer.Option(help="Seconds per step; the library's usual ones unless said.")] = None,
    per_window: Annotated[
        int, typer.Option("--steps-per-window", metavar="N", help="Of a first-spike net, which NIR can only step.")
    ] = 64,
    data: DataFolder = None,
) -> None:
    """Write a run's net as NIR, read it again, and print what was measured."""
    from aplysia.exchange import export_command

    export_command.export(export_command.Request(run, nir, reader, dt, per_window, data))


def _chosen(name: str, changes: list[str], out: Path | None, resume: bool, team: Ranks) -> tuple[Recipe, RunFolder]:
    """Recipe and folder of a run; of processes that train together only the first one makes and writes the folder."""
    from aplysia.recipes import find
    from aplysia.train.codec import override
    from aplysia.train.folder import RunFolder
    from aplysia.train.recipe import AXES

    if team.size == 1:
        return _resumed(name, changes, out) if resume else _fresh(name, changes, out)
    assert out is not None, "checked before they met"
    # Those that torchrun starts again go on with the run, unless the first ones died before there was one.
    resume = team.tell(resume or (team.remembers("run") and (out / "recipe.json").is_file()))
    problem, chosen = None, None
    if team.main:
        try:
            chosen = _resumed(name, changes, out) if resume else _fresh(name, changes, out)
        except AplysiaError as found:
            problem = found
    if team.tell(problem is not None):
        raise problem or SystemExit(1)  # said once, by the first
    if chosen is not None:
        team.remember("run")
        return chosen
    folder = RunFolder(out, written=False)
    return (_recipe_of(folder) if resume else override(find(name), changes, AXES)), folder


def _recipe_of(folder: RunFolder) -> Recipe:
    from aplysia.train.codec import decode
    from aplysia.train.recipe import AXES, Recipe

    return decode(Recipe, folder.read_json("recipe.json"), AXES)


def _fresh(name: str, changes: list[str], out: Path | None) -> tuple[Recipe, RunFolder]:
    from aplysia.recipes import find
    from aplysia.train.codec import override
    from aplysia.train.folder import RunFolder
    from aplysia.train.recipe import AXES

    recipe = override(find(name), changes, AXES)
    return recipe, RunFolder.create(out or _new_folder(recipe), resume=False)


def _resumed(name: str, changes: list[str], out: Path | None) -> tuple[Recipe, RunFolder]:
    from aplysia.recipes import find
    from aplysia.train.codec import encode, override
    from aplysia.train.folder import RunFolder
    from aplysia.train.recipe import AXES

    path = out or _last_unfinished(find(name).name)
    if not (path / "recipe.json").is_file():
        raise RunError(
            str(path), expected="a run folder to resume", got="none", fix="check --out, or leave out --resume"
        )
    folder = RunFolder.create(path, resume=True)
    recipe = _recipe_of(folder)
    changed = encode(override(recipe, changes, AXES), AXES)
    was = encode(recipe, AXES)
    differing = [key for key in was if was[key] != changed[key]]
    if differing:
        raise RunError(
            str(path),
            expected="the settings the run was started with",
            got=f"other ones for {', '.join(differing)}",
            fix="leave them out to resume, or start a new run with another --out",
        )
    if recipe.name != find(name).name:
        raise RunError(
            str(path),
            expected=f"a run of {name}",
            got=f"one of {recipe.name}",
            fix=f"write aplysia run {recipe.name} --resume",
        )
    return recipe, folder


def _new_folder(recipe: Recipe) -> Path:
    stem = f"{recipe.name}-{_rule(recipe)}-s{recipe.seed}"
    number = 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def _last_unfinished(name: str) -> Path:
    waiting = [p.parent for p in Path("runs").glob(f"{name}-*/recipe.json") if not (p.parent / "summary.json").exists()]
    if not waiting:
        raise RunError("runs", expected=f"an unfinished run of {name}", got="none", fix="name its folder with --out")
    return max(waiting, key=lambda path: path.stat().st_mtime)


def _rule(recipe: Recipe) -> str:
    from aplysia.train.run import axis_name

    return Path(axis_name(recipe.rule).rpartition(":")[0] or axis_name(recipe.rule)).stem


def _device(text: str) -> torch.device:
    import torch

    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if text not in ("cpu", "cuda") and not text.startswith("cuda:"):
        raise RecipeError("--device", expected="auto, cpu or cuda", got=f"'{text}'", fix="use auto")
    if text.startswith("cuda") and not torch.cuda.is_available():
        raise RecipeError("--device", expected="a CUDA device", got="none on this machine", fix="use --device auto")
    return torch.device(text)


def main() -> None:
    """Entry point: one clear sentence for a user's mistake, a traceback only for our own."""
    try:
        app()
    except AplysiaError as error:
        print(f"error: {error}", file=sys.stderr)
        _leave(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        _leave(130)
    except SystemExit as ended:
        _leave(ended.code)


def _leave(code: str | int | None) -> NoReturn:
    if "WORLD_SIZE" in os.environ and isinstance(code, int):
        # Threads that wait for a process which is gone would end this one by an abort, and hide its exit status.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code) from None


if __name__ == "__main__":
    main()
