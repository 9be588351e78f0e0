"""Write docs/results.md from what is stored under results/: nothing on that page is typed in.

    python benchmarks/results_page.py

`results/<recipe>/<rule>-s<seed>.json` are the `summary.json` of runs with their `run.json` under "run";
`results/tables/<name>/` is what `aplysia table <name> --export` wrote;
`results/train_step.json` is what `train_step.py --json` wrote, and so on for the other benchmarks.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path

import page_adopted
import page_questions
import page_streams
import training_cost

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
# What other files write of this page, by the file it needs.
SECTIONS = page_questions.SECTIONS | training_cost.SECTIONS | page_streams.SECTIONS | page_adopted.SECTIONS


def accuracy_table(folder: Path) -> list[str]:
    """Mean ± sd (n) per rule, best first."""
    runs = defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        summary = json.loads(path.read_text())
        runs[summary["rule"]].append(summary)
    lines = ["| rule | test accuracy %, mean ± sd (n) | words moved of BP's | seeds |", "| --- | --- | --- | --- |"]

    def mean(rule: str) -> float:
        return statistics.mean(run["test_accuracy"] for run in runs[rule])

    for rule in sorted(runs, key=mean, reverse=True):
        found = [100 * run["test_accuracy"] for run in runs[rule]]
        spread = f"± {statistics.stdev(found):.2f}" if len(found) > 1 else "(one run: not an accuracy claim)"
        moved = sum(run["transport"]["words"] for run in runs[rule]) / sum(
            run["transport"]["words_bp"] for run in runs[rule]
        )
        seeds = ", ".join(str(run["seed"]) for run in sorted(runs[rule], key=lambda run: run["seed"]))
        lines.append(f"| `{rule}` | {statistics.mean(found):.2f} {spread} ({len(found)}) | {moved:g} | {seeds} |")
    example = next(iter(runs.values()))[0]
    run = example["run"]
    net = f", net `{example['net']}`" if "net" in example else ""
    lines += [
        "",
        f"{example['data']}{net}, {example['epochs']} epochs, neuron `{example['neuron']}`, time `{example['temporal']}`, "
        f"{example['parameters']:,} parameters; torch {run['torch']} on {run['device_name']} ({run['threads']} thread(s))."
        + (f" Caveat: {run['caveat']}." if run.get("caveat") else ""),
    ]
    return lines


def exported_table(folder: Path) -> list[str]:
    """The text of an exported table as it is, its drawing below."""
    lines = [(folder / "table.md").read_text().rstrip()]
    if (folder / "table.svg").exists():
        place = (folder / "table.svg").relative_to(ROOT).as_posix()
        lines += ["", f"![accuracy against weight words moved: {folder.name}](../{place})"]
    if (folder / "alignment.svg").exists():
        place = (folder / "alignment.svg").relative_to(ROOT).as_posix()
        lines += ["", f"![gradient cosine with backpropagation per layer over steps: {folder.name}](../{place})"]
    if (folder / "dynamics.svg").exists():
        place = (folder / "dynamics.svg").relative_to(ROOT).as_posix()
        lines += ["", f"![accuracy over epochs: {folder.name}](../{place})"]
    settings = [f"--set {text}" for text in json.loads((folder / "table.json").read_text())["settings"]]
    words = ["aplysia table", folder.name, *settings, "--show --out", folder.relative_to(ROOT).as_posix()]
    return [*lines, "", f"`{' '.join(words)}` prints it."]


def speed_table(stored: dict) -> list[str]:
    """Samples per second and ratios, by T."""
    lines = []
    for key in [k for k in stored if k.startswith("T")]:
        race = stored[key]
        lines += [f"### T = {race['steps']}", ""]
        if "spike_rates" in race:
            told = ", ".join(f"{rate:.1%}" for rate in race["spike_rates"])
            lines.append(f"Of the hidden units {told} fire a step, layer by layer, at the weights that all have.")
            if "spike_rates_busy" in race:
                told = ", ".join(f"{rate:.1%}" for rate in race["spike_rates_busy"])
                lines.append(f"In `…_busy` weights are twice as large, and {told} fire.")
            lines.append("")
        lines += [
            "| | samples/s | × best peer | × best hoisted peer | × best in bf16 |",
            "| --- | --- | --- | --- | --- |",
        ]
        for name, speed in sorted(race["samples_per_second"].items(), key=lambda item: -item[1]):
            ratios = (
                race.get(f"ratio_to_best_{pool}", {}).get(name) for pool in ("peer", "hoisted_peer", "autocast_peer")
            )
            cells = ("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
            lines.append(f"| {name} | {speed:,.0f} | " + " | ".join(cells) + " |")
        lines += [
            "",
            f"Best peer: {race['best_peer']}; hoisted: {race['best_hoisted_peer']}"
            + (f"; in bf16: {race['best_autocast_peer']}" if "best_autocast_peer" in race else "")
            + ".",
            f"Medians of {race['rounds']} rounds.",
            "",
        ]
    if "peak_memory_bytes" in stored:
        table = stored["peak_memory_bytes"]
        steps = list(next(iter(table.values())))
        lines += ["### Peak memory of a step above the idle process, MB", "", "| T | " + " | ".join(steps) + " |"]
        lines += ["| --- |" + " --- |" * len(steps)]
        lines += [
            f"| {name} | " + " | ".join(f"{row[t] / 1e6:.1f}" for t in steps) + " |" for name, row in table.items()
        ]
        lines.append("")
    return lines


def first_spike_table(stored: dict) -> list[str]:
    """Samples per second of first-spike conv nets, by shape, and the ramp kernel if it was measured."""
    lines = []
    for race in (value for value in stored.values() if isinstance(value, dict) and "samples_per_second" in value):
        lines += [f"### {race['net']}, batch {race['batch']}", "", "| | samples/s |", "| --- | --- |"]
        for name, speed in sorted(race["samples_per_second"].items(), key=lambda item: -item[1]):
            lines.append(f"| {name} | {speed:,.0f} |")
        best, times, default = race["best_relu"], race["times_relu"], race["times_default_relu"]
        told = (
            f"The windowed net takes {times['windowed']:.2f} times as long as `{best}`, the faster ReLU net, and "
            f"{default['windowed']:.2f} times as long as the one in torch's default order of memory"
        )
        if "ratio_to_best_peer" in race:
            speed_up, peer = race["ratio_to_best_peer"], race["best_peer"]
            told += f"; it is {speed_up:.1f} times as fast as `{peer}` at T = {stored['peer_steps']}"
        lines += ["", f"{told}. Medians of {race['rounds']} rounds.", ""]
    if "ramp" in stored:
        lines += ["### The ramp neuron's kernel, forward and backward", ""]
        lines += ["| | | ms | peak MB | times faster | times smaller |", "| --- | --- | --- | --- | --- | --- |"]
        for name, race in stored["ramp"].items():
            for who, milliseconds in race["milliseconds"].items():
                faster, smaller = (race[key].get(who) for key in ("times_faster", "times_smaller"))
                ratios = f"{faster:.0f} | {smaller:.0f}" if faster else "|"
                peak = race["peak_bytes"][who] / 1e6
                lines.append(f"| {name} | {who} | {milliseconds:,.0f} | {peak:,.0f} | {ratios} |")
        lines.append("")
    return lines


def cost_table(stored: dict) -> list[str]:
    """What each rule's feedback costs, by net."""
    lines = []
    for name, net in stored["nets"].items():
        lines += [
            f"### {name}: `{net['net']}`",
            "",
            "| rule | products beyond forward | of BP's | words remembered | random numbers | words written a batch |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        of_bp = net["rules"]["BP"]["learning_macs"]
        for rule, row in net["rules"].items():
            counts = (row[key] for key in ("words_remembered", "random_numbers", "words_written"))
            told = " | ".join(f"{count:,.0f}" for count in counts)
            lines.append(f"| {rule} | {row['learning_macs']:,.0f} | {row['learning_macs'] / of_bp:.2f} | {told} |")
        lines.append("")
    return lines


def variance_table(stored: dict) -> list[str]:
    """Hidden gradients of each rule, by net and state; layers from the first to the last, and the claims beside them."""
    lines = []
    for data, net in stored["nets"].items():
        for state, told in net["states"].items():
            of_bp, layers = told["rules"]["BP"], list(told["rates"])
            accuracy = f"training accuracy {100 * told['training_accuracy']:.0f} %"
            caveat = f" Caveat: {net['caveat']}." if net["caveat"] else ""
            lines += [
                f"### {data}, {state}",
                "",
                f"`{net['net']}`, T = {net['steps']}, batch {net['batch']}, {accuracy}.{caveat}",
                "",
                "| rule | variance, of BP's | variance / ‖mean‖² | cosine of the mean with BP's |",
                "| --- | --- | --- | --- |",
            ]
            for rule, row in told["rules"].items():
                ratios = (_two_digits(row[layer]["variance"] / of_bp[layer]["variance"]) for layer in layers)
                noise = (_two_digits(row[layer]["variance"] / row[layer]["mean_square"]) for layer in layers)
                cosines = (f"{row[layer]['cosine']:.2f}" for layer in layers)
                lines.append(f"| {rule} | " + " | ".join(", ".join(cells) for cells in (ratios, noise, cosines)) + " |")
            lines.append("")
    lines += [
        "### What the paper claims",
        "",
        "Plain zeroth order's variance is orders of magnitude above backpropagation's, pseudo-zeroth order's about the same. "
        "The limits are ours, and so are rows without momentum, which is not the paper's rule.",
        "",
        "| net | rule | claim, in every layer | measured | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for claim in stored["claims"]:
        measured = f"{_two_digits(claim['lowest'])} to {_two_digits(claim['highest'])} ×"
        verdict = "holds" if claim["holds"] else "**fails**"
        lines.append(
            f"| {claim['data']}, {claim['state']} | {claim['rule']} | {claim['claim']} | {measured} | {verdict} |"
        )
    return [*lines, ""]


def _two_digits(x: float) -> str:
    return f"{float(f'{x:.2g}'):,g}" if x < 1e6 else f"{x:.1e}"


def main() -> None:
    lines = ["# Results", "", "Generated by `python benchmarks/results_page.py` from the files under `results/`.", ""]
    for folder in sorted(p for p in RESULTS.iterdir() if p.is_dir() and p.name not in ("tables", "tuning")):
        lines += [f"## `{folder.name}`", "", *accuracy_table(folder), ""]
    for folder in sorted(p.parent for p in (RESULTS / "tables").glob("*/table.md")):
        lines += [f"## Table `{folder.name}`", "", *exported_table(folder), ""]
    speed = RESULTS / "train_step.json"
    if speed.exists():
        stored = json.loads(speed.read_text())
        lines += [
            "## One training step beside the peers",
            "",
            f"784-800-800-10 LIF, batch {stored['batch']}, constant input, SGD with momentum, torch {stored['torch']}, "
            f"{stored['threads']} threads, all in one process and interleaved (`benchmarks/train_step.py`). *Hoisted* peers "
            "pass the constant input through the first layer once, as Aplysia does, which their documentation does not do.",
            "",
            *speed_table(stored),
        ]
    first = RESULTS / "first_spike.json"
    if first.exists():
        stored = json.loads(first.read_text())
        lines += [
            "## One training step of first-spike nets",
            "",
            f"torch {stored['torch']}, {stored['threads']} threads, all in one process and interleaved "
            "(`benchmarks/first_spike.py`).",
            "",
            *first_spike_table(stored),
        ]
    costs = RESULTS / "feedback_cost.json"
    if costs.exists():
        lines += [
            "## What feedback costs",
            "",
            "Per sample and time step; products are multiply-accumulates beyond those of a forward pass, counted by torch on "
            "one training step (`benchmarks/feedback_cost.py`). BP's and frozen BP's written words are copies of weights.",
            "",
            *cost_table(json.loads(costs.read_text())),
        ]
    variance = RESULTS / "gradient_variance.json"
    if variance.exists():
        stored = json.loads(variance.read_text())
        protocol = next(iter(stored["nets"].values()))["protocol"]
        lines += [
            "## Variance of hidden gradients",
            "",
            f"Frozen weights, the same {protocol['batches']} random batches for every rule, whose feedback learnt before from "
            f"up to {protocol['warm_up']} others (`benchmarks/gradient_variance.py`). A cell holds the hidden layers, first to "
            "last; variances are sums over a layer's parameters. One net and seed each: orders of magnitude, not more. "
            "A small variance alone says little, since feedback near zero has next to none: see the cosine.",
            "",
            "![variance and direction of hidden gradients per rule](../results/gradient_variance.svg)",
            "",
            *variance_table(stored),
        ]
    for name, section in SECTIONS.items():
        if (RESULTS / name).exists():
            lines += section(RESULTS / name)
    (ROOT / "docs" / "results.md").write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
