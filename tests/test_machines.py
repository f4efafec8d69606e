"""How a machine learns which one it is."""

import os
import re

import pytest

from gcl_custom.errors import UserError
from gcl_custom.machines import LAUNCHERS, NUMBERS, number

TORCHRUN = {"GROUP_RANK": "2", "RANK": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "3",
            "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none",
            "TORCHELASTIC_USE_AGENT_STORE": "True"}  # fmt: skip
SRUN = {"SLURM_NODEID": "2", "SLURM_NTASKS": "3", "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_NUM_NODES": "3"}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> dict[str, str]:
    """An environment in which a launcher has said this and nothing else."""
    for name in (*NUMBERS, *LAUNCHERS):
        monkeypatch.delenv(name, raising=False)
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)
    given: dict[str, str] = request.param
    return given


@pytest.mark.parametrize("said", [{"NODE_RANK": "2"}, TORCHRUN, SRUN, SRUN | {"NODE_RANK": "2", "SLURM_NODEID": "0"}],
                         indirect=True, ids=["by hand", "torchrun", "srun", "by hand under srun"])  # fmt: skip
@pytest.mark.parametrize("nodes", [3, 1])
def test_the_environment_says_it_and_lightning_sees_no_launcher(said: dict[str, str], nodes: int) -> None:
    from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

    assert number(nodes) == (2 if nodes == 3 else 0)
    assert not TorchElasticEnvironment.detect()
    assert not SLURMEnvironment.detect()
    assert LightningEnvironment().node_rank() == 0
    assert not set(said) & set(os.environ)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "hardware.nodes is 3, but the environment does not say which of them this is. Set NODE_RANK"),
        (
            {"NODE_RANK": "3"},
            "hardware.nodes is 3, but NODE_RANK is '3'. Set NODE_RANK on each machine, from 0 to 2",
        ),
        ({"NODE_RANK": "-1"}, "NODE_RANK is '-1'"),
        ({"NODE_RANK": ""}, "NODE_RANK is ''"),
        ({"GROUP_RANK": "7"}, "GROUP_RANK is '7'"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "4"}, "4 processes of this command were started on each machine. Start one"),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "24"}, "8 processes of this command were started"),
    ],
    indirect=["said"],
)
def test_an_environment_that_does_not_say_it_is_refused(said: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        number(3)
