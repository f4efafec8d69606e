"""Batch normalisation over processes; with several of them, see test_whole_batch and test_training."""

import atexit
from pathlib import Path

import torch
from torch import distributed, multiprocessing, nn

from gcl_custom import processes


def test_one_process_is_the_plain_case() -> None:
    values = torch.ones(3)
    assert (processes.count(), processes.rank()) == (1, 0)
    assert processes.sum_over(values) is values


def test_joined_batch_norms_keep_weights_names_and_what_they_do_alone() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5))
    tiles, names = torch.randn(6, 3, 2, 2), list(net.state_dict())
    expected = [net(tiles), net.eval()(tiles)]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    for module in net:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    processes.join_batch_norms(net)
    found = [net.train()(tiles), net.eval()(tiles)]
    assert list(net.state_dict()) == names
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, state[name])


def ends(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    # What is registered first is called last.
    atexit.register(lambda: Path(folder, f"{rank}").write_text(f"{distributed.is_initialized()}"))
    processes.part_at_exit()
    processes.sum_over(torch.ones(3))


def test_processes_part_before_they_end(tmp_path: Path) -> None:
    multiprocessing.spawn(ends, args=(str(tmp_path),), nprocs=2)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["False", "False"]
