"""What the benchmarks of the suite share at the command line: options, device, conditions, and the file they leave."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import torch


def parser(doc: str | None, quick: str) -> argparse.ArgumentParser:
    """Options that every benchmark has.

    Args:
        doc: of the script.
        quick: what `--quick` does.
    """
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help=quick)
    made.add_argument("--json", metavar="FILE", type=Path)
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    made.add_argument("--threads", type=int, default=2, help="at most; 2 unless said")
    made.add_argument("--rounds", type=int, help="in place of the usual number")
    return made


def begin(arguments: argparse.Namespace) -> torch.device:
    """Threads and device as asked for; the peers' own warnings are not ours to show."""
    torch.set_num_threads(min(arguments.threads, torch.get_num_threads()))
    warnings.filterwarnings("ignore", module="(norse|snntorch|spikingjelly|nirtorch)")
    return torch.device(arguments.device)


def conditions(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a reader must know to compare with other numbers."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": arguments.device,
        "quick": arguments.quick,
    }


def leave(results: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Write the file, where one is asked for."""
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
