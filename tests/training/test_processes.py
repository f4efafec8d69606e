"""Sums over processes, and why one of them failed; with several of them, see also test_whole_batch and test_loop."""

import atexit
import re
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from gcl_custom.errors import UserError
from gcl_custom.training import processes


def test_one_process_is_the_plain_case() -> None:
    values = torch.ones(3)
    assert (processes.count(), processes.rank()) == (1, 0)
    assert processes.sum_over(values) is values
    assert processes.gathered("all") == ["all"]


TASKS = Path("/proc/self/task")
"""Where Linux lists a process's threads; elsewhere they are not looked at."""


def gloo_threads() -> list[str]:
    """Names of this process's threads that belong to a process group."""
    names = [(task / "comm").read_text().strip() for task in TASKS.iterdir()] if TASKS.exists() else []
    return [name for name in names if "gloo" in name]


def ends(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    # What is registered first is called last.
    atexit.register(lambda: Path(folder, f"{rank}").write_text(f"{distributed.is_initialized()} {gloo_threads()}"))
    processes.part_at_exit()
    processes.sum_over(torch.ones(3))
    assert gloo_threads() or not TASKS.exists()
    torch.optim.SGD([nn.Parameter(torch.ones(3))])  # imports much, of which nothing may hold the group
    found = [processes.gathered(rank)]
    processes.work_apart()
    assert processes.count() == 1
    found.append(processes.gathered(rank))
    with processes.together():
        found.append(processes.gathered(rank))
    Path(folder, f"gathered-{rank}").write_text(str(found))


@pytest.mark.parametrize(
    ("error", "report"),
    [
        (UserError("mend it"), ("mendable", "mend it")),
        (OSError(28, "No space left on device", "f"), ("mendable", r"f: the disk is full.*")),
        (
            RuntimeError("[gloo/x.cc:1] Connection closed by peer\nmore"),
            ("lost another", r".*Connection closed by peer"),
        ),
        (ZeroDivisionError("ours"), ("ours", r"(?s).*ZeroDivisionError: ours\n")),
    ],
)
def test_a_report_says_whose_fault_it_is(error: Exception, report: tuple[str, str]) -> None:
    kind, text = processes.report_of(error)
    assert kind == report[0]
    assert re.fullmatch(report[1], text)


def test_the_cause_is_what_can_be_mended_and_never_that_others_were_lost() -> None:
    lost, ours, mendable = ("lost another", "gone"), ("ours", "Traceback"), ("mendable", "mend it")
    assert str(processes.cause([lost, ours, mendable], "by SIGKILL")) == "mend it"
    assert isinstance(processes.cause([ours, lost]), RuntimeError)
    assert "was killed by SIGKILL, and the others were ended. " in str(processes.cause([lost], "by SIGKILL"))
    assert "was killed, and the others were ended (gone). " in str(processes.cause([lost]))


def test_processes_part_before_they_end(tmp_path: Path) -> None:
    multiprocessing.spawn(ends, args=(str(tmp_path),), nprocs=2)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["False []", "False []"]
    assert (tmp_path / "gathered-0").read_text() == "[[0, 1], [0], [0, 1]]"
    assert (tmp_path / "gathered-1").read_text() == "[[], [1], []]"
