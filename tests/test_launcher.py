"""Variables of launchers are read as they set them, and only where they started several processes."""

import pytest
from launched_processes import variables

from gcl_custom.errors import UserError
from gcl_custom.launcher import Launch, launch


def test_a_process_that_was_started_alone_has_no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch() is None
    # A batch script of SLURM, whose variables tell of the job; torchrun with one process; what is left in a shell.
    for names in (
        {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_NNODES": "2"},
        {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "1", "RANK": "0"},
        {"WORLD_SIZE": "4", "RANK": "1"},
    ):
        with monkeypatch.context() as patched:
            for name, value in names.items():
                patched.setenv(name, value)
            assert launch() is None


@pytest.mark.parametrize("by", ["torchrun", "srun"])
def test_a_launcher_says_which_of_how_many_this_is(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables(by, 1, 29500).items():
        monkeypatch.setenv(name, value)
    assert launch() == Launch(by, rank=1, local_rank=0, processes=2, nodes=2)


def test_srun_has_to_say_how_many_processes_a_node_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables("srun", 1, 29500).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(UserError, match=r"without --ntasks-per-node"):
        launch()


@pytest.mark.parametrize(("name", "value"), [("RANK", "first"), ("WORLD_SIZE", ""), ("SLURM_STEP_NUM_TASKS", "-1")])
def test_an_odd_number_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=rf"{name} is '{value}', and should be a whole number"):
        launch()
