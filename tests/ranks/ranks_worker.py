"""One of the processes that `test_ranks.py` starts: trains every cell on its part, and leaves what it has in a file."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from ranks_parts import cells, train

from aplysia.ranks import join

if __name__ == "__main__":
    torch.set_num_threads(1)
    with join("cpu") as team:
        made = {name: train(cell, team) for name, cell in cells().items()}
        torch.save(made, Path(sys.argv[1]) / f"{team.rank}.pt")
