"""FSDP on two processes: it trains as DDP does, each holds a half, and what was killed ends with the same bytes."""

import os
import pickle
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from launched_processes import Two
from safetensors.torch import load_file
from token_runs import RECIPE, with_tokenizer
from torch import Tensor, distributed, nn

from gcl_custom.generator.fit_maskgit import fit_maskgit
from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.generator.public.halton_maskgit import HaltonMaskGIT
from gcl_custom.generator.public.mage import MageTransformer
from gcl_custom.generator.token_training import MaskGITTraining
from gcl_custom.recipe.generator import MaskGITSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run
from gcl_custom.training import fsdp
from gcl_custom.training.batches import Batch
from gcl_custom.training.launched import sharing

SETTINGS = MaskGITSettings(width=32, depth=2, heads=2)
CODES, SIDE = 7, 3


def with_strategy(strategy: str, nodes: int = 2) -> Recipe:
    maskgit = RECIPE.tokens.maskgit.model_copy(update={"epochs": 4, "batch": 2, "depth": 2})
    generator = RECIPE.tokens.model_copy(update={"maskgit": maskgit})
    hardware = RECIPE.hardware.model_copy(update={"nodes": nodes, "strategy": strategy})
    return RECIPE.model_copy(update={"generator": generator, "hardware": hardware})


def train(folder: Path, strategy: str) -> None:
    fit_maskgit(Run(folder, with_strategy(strategy)))


def trained(folder: Path, strategy: str) -> Path:
    """The folder, after a training by two processes."""
    two = Two(partial(train, folder, strategy))
    assert (two.codes(600), two.error) == ([0, 0], "")
    return folder


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    with_tokenizer(folder, with_strategy("ddp", nodes=1))
    return folder


@pytest.fixture(scope="module")
def undisturbed(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training with FSDP."""
    folder = tmp_path_factory.mktemp("fsdp")
    return trained(Path(shutil.copytree(tokens, folder, dirs_exist_ok=True)), "fsdp")


@pytest.fixture(scope="module")
def by_ddp(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddp")
    return trained(Path(shutil.copytree(tokens, folder, dirs_exist_ok=True)), "ddp")


def checkpoint(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "maskgit" / "last.ckpt", weights_only=True)
    return {**found, "state_dict": comparable(found["state_dict"])}


def weights(folder: Path) -> dict[str, Tensor]:
    return comparable(load_file(folder / "maskgit" / "maskgit.safetensors"))


def comparable(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the biases of keys: attention does not depend on them, and Adam makes steps of rounding errors."""
    return {name: value[32:] if name.endswith("key_value.bias") else value for name, value in state.items()}


def assert_close(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_it_trains_as_ddp_does(undisturbed: Path, by_ddp: Path) -> None:
    """Weights, both averages, Adam's moments and figures, with dropout and gradients that are cut to a norm."""
    ours, theirs = checkpoint(undisturbed), checkpoint(by_ddp)
    assert ours["step"] == theirs["step"] >= 8
    assert_close(ours["state_dict"], theirs["state_dict"])
    assert_close(ours["optimizer"]["state"], theirs["optimizer"]["state"])
    assert ours["optimizer"]["param_groups"] == theirs["optimizer"]["param_groups"]
    assert_close(ours["history"], theirs["history"])
    assert_close(weights(undisturbed), weights(by_ddp))
    net = MaskGIT(8, 4, with_strategy("fsdp").tokens.maskgit)
    net.load_state_dict(load_file(undisturbed / "maskgit" / "maskgit.safetensors"))  # whole, by its own names


def kill(rank: int, step: int) -> Callable[[MaskGITTraining, Batch], Tensor]:
    """A training step before which a process is killed."""
    taken = MaskGITTraining.training_step

    def dying(self: MaskGITTraining, batch: Batch) -> Tensor:
        if (distributed.get_rank(), batch.step) == (rank, step):
            os.kill(os.getpid(), signal.SIGKILL)
        return taken(self, batch)

    return dying


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_training_goes_on_to_the_same_bytes_or_with_ddp(
    tokens: Path, tmp_path: Path, rank: int, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tokens, tmp_path / "killed"))
    with monkeypatch.context() as patched:
        patched.setattr(MaskGITTraining, "training_step", kill(rank, 5))
        two = Two(partial(train, folder, "fsdp"))
        assert two.codes(600) == ([-signal.SIGKILL, 1] if rank == 0 else [1, -signal.SIGKILL])
    assert 0 < checkpoint(folder)["step"] <= 5
    if rank:
        assert_close(weights(trained(folder, "ddp")), weights(undisturbed))
        return
    trained(folder, "fsdp")
    for name in ("maskgit.safetensors", "history.json"):
        assert (folder / "maskgit" / name).read_bytes() == (undisturbed / "maskgit" / name).read_bytes()


# ---------------------------------------------------------------- the parts


def network(seed: int) -> MaskGIT:
    torch.manual_seed(seed)
    return MaskGIT(CODES, SIDE, SETTINGS)


PUBLIC: dict[str, Callable[[], nn.Module]] = {
    "halton": lambda: HaltonMaskGIT(CODES, SIDE, 32, 2, depth=2, inner=32, hidden=32, classes=3, registers=1),
    "mage": lambda: MageTransformer(
        CODES, SIDE, width=32, depth=2, heads=2, hidden=64,
        decoder_width=32, decoder_depth=2, decoder_heads=2, decoder_hidden=64,
    ),
}  # fmt: skip
"""Transformers that others trained, which call their layers in ways of their own."""


def public(name: str) -> nn.Module:
    """One of them in evaluation mode, with other weights than zeros."""
    torch.manual_seed(0)
    net = PUBLIC[name]().eval()
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.05)
    return net


def gradients_of(net: Any, tiles: slice) -> list[Tensor]:
    net.loss(*batch(tiles)).backward()
    return [weight.grad for weight in net.parameters() if weight.grad is not None]


def batch(tiles: slice) -> tuple[Tensor, Tensor]:
    """Tokens, and as many hidden ones in each tile."""
    tokens = torch.randint(CODES, (4, SIDE, SIDE), generator=torch.Generator().manual_seed(3))
    hidden = (torch.arange(SIDE * SIDE) % 2 == 0).view(SIDE, SIDE).expand(4, -1, -1)
    return tokens[tiles], hidden[tiles]


def bytes_of(network: nn.Module) -> int:
    return sum(getattr(weight, "to_local", lambda weight=weight: weight)().nbytes for weight in network.parameters())


def look(folder: Path) -> None:
    """What a process finds, for the tests below."""
    rank = distributed.get_rank()
    large = fsdp.Large(network(0), (network(1).requires_grad_(False),), network(1))
    (follower,) = large.followers
    fsdp.share_out(large, torch.device("cpu"))
    found: dict[str, Any] = {"bytes": [bytes_of(large.trained), bytes_of(follower)]}
    half = slice(2 * rank, 2 * rank + 2)
    gradients = gradients_of(large.trained.eval(), half)
    found["norm"] = fsdp.whole(nn.utils.get_total_norm(gradients))
    found["gradients"] = fsdp.whole_state(gradients, True)
    for name in PUBLIC:
        other = public(name)
        fsdp.share_out(fsdp.Large(other, (), other), torch.device("cpu"))
        found[name] = fsdp.whole_state(gradients_of(other, half), True)
    found["state"] = fsdp.whole_state(large.trained.state_dict(), rank == 0)
    parts = list(follower.parameters())
    with fsdp.gathered(follower, rank == 0):
        found["gathered"] = [weight.numel() for weight in follower.parameters() if type(weight) is nn.Parameter]
        if rank == 0:
            found["loss"] = follower.eval().loss(*batch(slice(0, 4)))
    found["restored"] = all(a is b for a, b in zip(parts, follower.parameters(), strict=True))
    fsdp.load_weights(follower, network(0).state_dict())
    found["loaded"], found["held"] = fsdp.whole_state(follower.state_dict(), True), bytes_of(follower)
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))


def look_together(folder: Path) -> None:
    with sharing(look, folder):
        look(folder)


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("looked")
    two = Two(partial(look_together, folder))
    assert (two.codes(600), two.error) == ([0, 0], "")
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in (0, 1)]


def test_each_process_holds_a_half(looked: list[dict[str, Any]]) -> None:
    sizes = [weight.shape for weight in network(0).parameters()]
    for rank, found in enumerate(looked):
        # Of an odd number of rows the first process has one more.
        part = sum(4 * shape.numel() // shape[0] * ((shape[0] + 1 - rank) // 2) for shape in sizes)
        assert found["bytes"] == [part, part]
        assert found["held"] == part
    assert sum(found["bytes"][0] for found in looked) == bytes_of(network(0))


def test_gradients_and_their_norm_are_those_of_the_whole_batch(looked: list[dict[str, Any]]) -> None:
    gradients = gradients_of(network(0).eval(), slice(0, 4))
    for found in looked:
        assert_close(found["gradients"], gradients)
        assert_close(found["norm"], nn.utils.get_total_norm(gradients))
        for name in PUBLIC:
            assert_close(found[name], gradients_of(public(name), slice(0, 4)))


def test_whole_weights_are_there_where_they_are_asked_for(looked: list[dict[str, Any]]) -> None:
    first, second = looked
    assert_close(first["loss"], network(1).eval().loss(*batch(slice(0, 4))))
    assert first["gathered"] == [weight.numel() for weight in network(1).parameters()]
    assert not second["gathered"]
    assert first["restored"]
    assert second["restored"]
    for name, weight in network(0).state_dict().items():
        assert torch.equal(first["state"][name], weight)
        assert second["state"][name] is None
        assert torch.equal(first["loaded"][name], weight)
        assert torch.equal(second["loaded"][name], weight)


def test_without_parts_states_and_weights_are_as_they_are() -> None:
    net, state = network(0), {"steps": [1, torch.ones(2)], "betas": (0.9, 0.96)}
    found = fsdp.whole_state(state, here=True)
    assert found["steps"][1] is state["steps"][1]
    assert found["betas"] == (0.9, 0.96)
    with fsdp.gathered(net, here=True):
        assert_close(dict(net.named_parameters()), dict(network(0).named_parameters()))
    fsdp.load_weights(net, network(1).state_dict())
    assert_close(net.state_dict(), network(1).state_dict())
