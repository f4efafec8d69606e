"""Fabric as it is asked for. Works in several processes are tested with the loop, and with launched processes."""

import pytest
from regression import HARDWARE

from gcl_custom.errors import UserError
from gcl_custom.training.engine import engine, launch


def test_variables_of_a_job_alone_start_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a job of four tasks Lightning would want four devices."""
    for name, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert engine(HARDWARE).world_size == 1


def test_several_nodes_need_a_launcher() -> None:
    with pytest.raises(UserError, match=r"hardware\.nodes is 2, but this command was started alone.*torchrun or srun"):
        launch(HARDWARE.model_copy(update={"nodes": 2}), lambda _: pytest.fail("it is not done"))
