"""The model card of a run: one page of Markdown, made of the run's own files and of nothing else.

`recipe.json` (what was trained), `summary.json` (what it reached), `ledger.json` (what it costs) and `run.json` (where and with
what). What a file does not say is left out of the card, never guessed. A run writes its card when it ends; `aplysia card RUN`
writes it again, from the same files the same card.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aplysia.errors import AplysiaError, RunError
from aplysia.train.codec import decode
from aplysia.train.folder import RunFolder, write_atomic
from aplysia.train.ledger import PROPERTIES
from aplysia.train.recipe import AXES, Recipe

CARD = "model_card.md"

_LIMITS = (
    "Made to compare learning rules and to try nets on neuromorphic chips. Not tested for any use in which a wrong answer "
    "does harm.",
    "The accuracy is that of one test set, of the same source as the training data; nothing is known of other data, of shifts, "
    "of attacks, or of how it differs between groups of people.",
    "One seed: compare rules by several (`aplysia table`, `aplysia report`).",
    "Counts are of a digital design without overheads; no chip was measured.",
)


def card(path: Path) -> str:
    """The card of a finished run.

    Raises:
        RunError: the run is not finished, or one of its files is damaged.
    """
    folder = RunFolder(path)
    if not (path / "summary.json").is_file() or not (path / "recipe.json").is_file():
        raise RunError(
            str(path),
            expected="a finished run with its summary.json",
            got="one that is not finished" if folder.has_run else "none",
            fix="let it finish (aplysia run --resume), or check the path",
        )
    recipe, summary = folder.read_json("recipe.json"), folder.read_json("summary.json")
    run, ledger = (folder.read_json(name) if (path / name).is_file() else {} for name in ("run.json", "ledger.json"))
    try:
        known = decode(Recipe, recipe, AXES)
    except AplysiaError:
        known = None  # a rule from a file that is not here, or of another version: what the recipe says still stands
    try:
        parts = [
            f"# {summary['recipe']}, {summary['rule']}, seed {summary['seed']}",
            _what(recipe, summary),
            _section("Data", _data(known, recipe, summary, run)),
            _section("Net", _net(recipe, summary)),
            _section("Learning", _learning(known, recipe, summary)),
            _section("Reached", _reached(summary)),
            _section("Cost", _cost(summary, ledger)),
            _section("Needs of a chip that learns", _needs(ledger)),
            _section("Intended use and limits", _LIMITS),
            _section("Provenance", _provenance(run, summary)),
        ]
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as problem:
        what = f"{type(problem).__name__} at {problem}"
        raise RunError(str(path), expected="the files of a run", got=what, fix="restore them") from problem
    return "\n\n".join(part for part in parts if part) + "\n"


def write_card(path: Path) -> Path:
    """Write the card into the run folder; its path."""
    write_atomic(path / CARD, card(path))
    return path / CARD


def _section(title: str, lines: Iterable[str]) -> str:
    text = "\n".join(f"- {line}" for line in lines)
    return f"## {title}\n\n{text}" if text else ""


def _what(recipe: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    return (
        f"A spiking net `{recipe['net']}` of {summary['parameters']:,} parameters that sorts samples of {summary['data']}, "
        f"trained by `{summary['rule']}` over {summary['epochs']} epochs."
    )


def _data(
    known: Recipe | None, recipe: Mapping[str, Any], summary: Mapping[str, Any], run: Mapping[str, Any]
) -> list[str]:
    lines = [f"{summary['data']}" if known is None else f"{known.data.name}: {known.data.summary}"]
    if known is not None:
        lines.append(f"source: {known.data.source}; licence: {known.data.licence}")
    if recipe.get("train_samples"):
        lines.append(f"{recipe['train_samples']:,} training samples used, held-out ones included")
    lines.append(
        f"{recipe['validation']:.0%} of the training set held out for the curves; the test set looked at once, at the end"
    )
    prepared = ", ".join(
        [f"encoder {recipe['encoder']['kind']}", *(["mean and deviation taken off"] if recipe.get("normalise") else [])]
        + [f"augmented by {one['kind']}" for one in recipe.get("augment", [])]
    )
    lines.append(f"prepared: {prepared}")
    return lines + ([f"to be told: {run['caveat']}"] if run.get("caveat") else [])


def _net(recipe: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    weights = [name for name in ("bias", "standardise", "centre") if recipe.get(name)]
    lines = [
        f"`{recipe['net']}`, weights with {', '.join(weights)}" if weights else f"`{recipe['net']}`",
        f"neurons: {_fields(recipe['neuron'])}; readout: {_fields(recipe['readout'])}",
        f"steps T = {recipe['steps']}" if recipe["steps"] > 1 else "one window, no steps",
    ]
    rates = ", ".join(f"{name} {rate:.3f}" for name, rate in summary.get("rates", {}).items())
    return lines + ([f"spikes per unit and step on the test set: {rates}"] if rates else [])


def _learning(known: Recipe | None, recipe: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    said = [] if known is None else [f"{known.rule.summary}. After: {known.rule.paper}"]
    return [
        f"rule: {_fields(recipe['rule'])}",
        *said,
        f"through time: `{summary['temporal']}`; loss: {_fields(recipe['loss'])}",
        f"optimiser: {_fields(recipe['optimiser'])}; schedule {recipe['schedule']['kind']}; batches of {recipe['batch_size']}",
    ]


def _reached(summary: Mapping[str, Any]) -> list[str]:
    lines = [f"test accuracy {summary['test_accuracy']:.2%}, test loss {summary['test_loss']:.4g}"]
    for key, said in (
        ("train_accuracy", "training accuracy of the last epoch"),
        ("val_accuracy", "validation accuracy"),
        ("noisy_test_accuracy", "test accuracy under the noise of training"),
        ("limit_test_accuracy", "test accuracy in the limit of endless streams"),
    ):
        if summary.get(key) is not None:
            lines.append(f"{said} {summary[key]:.2%}")
    return lines


def _cost(summary: Mapping[str, Any], ledger: Mapping[str, Any]) -> list[str]:
    lines = []
    if "step" in ledger:
        batch = ledger["batch"]
        for title, entries in (("an answer", ledger["inference"]), ("a learnt sample", ledger["step"])):
            counts = ", ".join(f"{_sum(entries, key, batch)} {key[:-1].upper()}s" for key in ("macs", "acs"))
            lines.append(f"{title}: {counts}")
    if ledger.get("memory"):
        kept = sum(line["bytes"] or 0 for line in ledger["memory"])
        bound = "≥ " if any(line["bytes"] is None for line in ledger["memory"]) else ""
        lines.append(f"memory of learning a batch of {ledger['batch']}: {bound}{kept:,} bytes")
    moved = summary.get("transport", {})
    if moved.get("words") is not None:
        share = f", {moved['words'] / moved['words_bp']:.2%} of backpropagation's" if moved.get("words_bp") else ""
        lines.append(f"weights sent to the feedback side in all: {moved['words']:,}{share}")
    return lines


def _needs(ledger: Mapping[str, Any]) -> list[str]:
    properties = ledger.get("properties")
    if properties is None:
        return []
    needs = [text for key, text in PROPERTIES.items() if properties.get(key)]
    lines = [", ".join(needs) if needs else "none of: " + ", ".join(PROPERTIES.values())]
    if properties.get("feedback_bytes"):
        lines.append(f"{properties['feedback_bytes']:,} bytes of feedback weights")
    return lines


def _provenance(run: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    if not run:
        return []
    commit = (
        f", commit {run['commit'][:12]}{'-dirty' if run['commit'].endswith('-dirty') else ''}"
        if run.get("commit")
        else ""
    )
    lines = [
        f"Aplysia {run['aplysia']}{commit}, source {run['source']}, torch {run['torch']}, Python {run['python']}",
        f"{run['device_name']}, {run['threads']} threads; {run.get('started', '')} to {run.get('finished', 'its end')}, "
        f"{summary['seconds']:.0f} s of training",
        f"seed {summary['seed']}: of weights, order, augmentation, feedback and noise",
        "`aplysia run recipe.json`, with the file beside this page, trains it again",
    ]
    return lines + ([f"resumed at {run['resumed_at']}"] if run.get("resumed_at") else [])


def _fields(part: Mapping[str, Any]) -> str:
    """A part of a recipe with its numbers: `lif, leak 0.5, threshold 1`."""
    told = [str(part["kind"]).rpartition("/")[2]]
    for key, value in part.items():
        if isinstance(value, Mapping):
            told += [f"{key} {value['kind']}"] if "kind" in value else []
        elif key != "kind" and value is not None and not isinstance(value, bool | list):
            told.append(f"{key} {value:g}" if isinstance(value, int | float) else f"{key} {value}")
    return ", ".join(told)


def _sum(entries: Iterable[Mapping[str, Any]], key: str, batch: int) -> str:
    values = [entry[key] for entry in entries]
    known = sum(value for value in values if value is not None)
    return ("≥ " if None in values else "") + f"{known / batch:,.0f}"
