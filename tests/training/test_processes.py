"""Batch normalisation over processes; with several of them, see test_whole_batch and test_training."""

import atexit
from pathlib import Path

import torch
from torch import distributed, multiprocessing

from gcl_custom.training import processes


def test_one_process_is_the_plain_case() -> None:
    values = torch.ones(3)
    assert (processes.count(), processes.rank()) == (1, 0)
    assert processes.sum_over(values) is values


def ends(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    # What is registered first is called last.
    atexit.register(lambda: Path(folder, f"{rank}").write_text(f"{distributed.is_initialized()}"))
    processes.part_at_exit()
    processes.sum_over(torch.ones(3))


def test_processes_part_before_they_end(tmp_path: Path) -> None:
    multiprocessing.spawn(ends, args=(str(tmp_path),), nprocs=2)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["False", "False"]
