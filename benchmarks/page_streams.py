"""What `results_page.py` says of stochastic streams and of fine-tuning under noise."""

from __future__ import annotations

import json
import statistics
from pathlib import Path


def stream_speed(path: Path) -> list[str]:
    """The three engines beside the floor of their own products and random numbers."""
    stored = json.loads(path.read_text())
    lines = [
        "## One training step of stochastic streams",
        "",
        f"{stored['net']}, N = {stored['length']}, batch {stored['batch']}, torch {stored['torch']}, {stored['threads']} "
        f"threads, medians of {stored['rounds']} rounds in one process (`benchmarks/streams.py`). The floor is the two float32 "
        "products over all steps and one float random number for each bit. "
        + ("Sums of weights ran in bf16, exactly. " if stored["bf16_products"] else "Sums of weights ran in float32. ")
        + ("Coincidences were counted in bytes." if stored["byte_products"] else ""),
        "",
        "| | ms | × the floor |",
        "| --- | --- | --- |",
    ]
    for name, ms in sorted(stored["milliseconds"].items(), key=lambda item: item[1]):
        times = stored["times_floor"].get(name)
        lines.append(f"| {name} | {ms:.1f} | {'' if times is None else f'{times:.2f}'} |")
    memory = ", ".join(f"{size / 1e6:.1f} MB at N = {n}" for n, size in stored["peak_bytes"].items())
    return [
        *lines,
        "",
        f"Counts are {stored['bits_times_counts']:.1f} times as fast as bits. Peak memory of a step over bits: {memory}.",
        "",
    ]


def stream_gradients(path: Path) -> list[str]:
    """Errors of a gradient at the shortest and longest streams, and the slope between."""
    stored = json.loads(path.read_text())
    short, long = stored["lengths"][0], stored["lengths"][-1]
    lines = [
        "## Gradient error against the length of the streams",
        "",
        f"64-48-10 on the digits, one batch, at most {stored['draws']} draws of each (`benchmarks/stream_gradients.py`): "
        "root mean square distance to the gradient of the artificial net, relative; hidden layer, readout.",
        "",
        "![gradient error against stream length](../results/stream_gradients.svg)",
        "",
    ]
    for state, kinds in stored["states"].items():
        lines += [
            f"### {state}",
            "",
            f"| memory | N = {short} | N = {long} | slope in log N | bias at N = {long} (noise in it) |",
            "| --- | --- | --- | --- | --- |",
        ]
        for kind, told in kinds.items():
            cells = [", ".join(f"{x:.2f}" for x in told[key][at]) for key, at in (("error", 0), ("error", -1))]
            slope = ", ".join(f"{x:.2f}" for x in told["slope"])
            bias = ", ".join(
                f"{b:.2f} ({n:.2f})" for b, n in zip(told["bias"][-1], told["noise_of_bias"][-1], strict=True)
            )
            lines.append(f"| {kind} | {cells[0]} | {cells[1]} | {slope} | {bias} |")
        lines.append("")
    return lines


def noisy_finetuning(path: Path) -> list[str]:
    """Accuracy with and without noise, before and after each rule went on under it."""
    stored = json.loads(path.read_text())
    part = f"{stored['train_samples']:,} training images, " if stored["train_samples"] else ""
    lines = [
        "## Fine-tuning under noise",
        "",
        f"`{stored['recipe']}`, {part}{stored['epochs']} epochs of backpropagation without noise, then a third of that by "
        f"each rule under noise of α = {stored['alpha']:g} in all hidden layers; {len(stored['seeds'])} seeds "
        "(`benchmarks/noisy_finetuning.py`).",
        "",
        "| rule | test accuracy %, no noise | under noise |",
        "| --- | --- | --- |",
    ]
    for rule, rows in stored["rows"].items():
        cells = []
        for key in ("clean", "noisy"):
            values = [100 * row[key] for row in rows if row[key] is not None]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}" if values else "")
        lines.append(f"| {rule} | {cells[0]} | {cells[1]} |")
    return [*lines, ""]


SECTIONS = {
    "streams.json": stream_speed,
    "stream_gradients.json": stream_gradients,
    "noisy_finetuning.json": noisy_finetuning,
}
