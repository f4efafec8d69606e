"""A disk that fills up in any stage ends it with one message, and the run then goes on to the same scores."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import biggan_file
import pytest
import swav_file
import timm
import tiny_models
import torch
from drawn_imagery import draw
from full_disks import full, small_disk, without_inodes

from gcl_custom.cli import jobs, main
from gcl_custom.files import read_json
from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run

LEFT = (0, 100_000)
"""Bytes that are free when a stage begins: each is tried in turn, until the stage gets by with that."""
DO = jobs.do


class FullDisk:
    """Takes the place of ``jobs.do``: the disk is full when a stage is done for the first time, then it has room.

    Attributes:
        said: stage -> what it said each time before it ended. Formats of an export count as stages of their own.
    """

    def __init__(self, disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._disk, self._monkeypatch, self._capsys = disk, monkeypatch, capsys
        self.said: dict[str, list[str]] = {}

    def __call__(self, stage: str, *arguments: Any) -> None:
        name = f"export {arguments[1]}" if stage == "export" else stage
        for left in LEFT if name not in self.said else ():
            with full(self._disk, left):
                said = self.ended(lambda: DO(stage, *arguments))
            if said is None:
                return
            assert said.count("error: ") == 1, said
            assert re.search(r"error: \S+:? .*(the disk is full|are free)", said), said
            assert not [path for path in self._disk.rglob("*") if path.name.endswith((".part", ".trash"))]
            self.said.setdefault(name, []).append(said)
        DO(stage, *arguments)

    def ended(self, work: Callable[[], None]) -> str | None:
        """What the command line says if it ends with a message; None if it does its work."""
        codes: list[object] = []
        self._capsys.readouterr()
        self._monkeypatch.setattr(main, "app", work)
        try:
            main.main()
        except SystemExit as ended:
            codes.append(ended.code)
        said = self._capsys.readouterr()
        assert said.err == ""
        assert codes in ([], [1])
        return said.out if codes else None


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 160) as place:
        yield place


@pytest.fixture
def full_disk(disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> FullDisk:
    return FullDisk(disk, monkeypatch, capsys)


def run_in(folder: Path, given: Path, **sections: Any) -> Run:
    values = {
        "name": "tiny",
        "data": {"root": str(folder / "scenes"), "size": 32, "synthetic": {"tiles": 60, "pixels": 32}},
        "generator": {
            "tokenizer": {
                "epochs": 2, "batch": 16, "codes": 16, "channels": 16, "blocks": 1, "pixels_per_token": 8,
                "code_width": 8, "perceptual": {"name": "none"},
            },
            "maskgit": {"epochs": 2, "batch": 16, "width": 32, "depth": 1, "heads": 2},
        },
        "views": {"decoding_steps": 2, "batch": 16},
        "pretrain": {
            "backbone": "test_resnet", "epochs": 1, "batch": 16, "probe_every": 1,
            "optimizer": {"name": "adamw", "learning_rate": 1e-3}, "method": {"projector": [16, 16]},
            "targets": {
                "name": "features", "network": "test_resnet",
                "weights": {"name": "file", "weights": str(given / "teacher.pth"), "mean": [0.5], "std": [0.5]},
            },
        },
        "compare": {
            "seeds": [0], "arms": ["gcl", "reconstructed", "supervised"], "fractions": [0.5], "penalties": [1e-2],
            "neighbours": 3, "learning_rates": [1e-3], "finetune_steps": 2, "supervised_epochs": 1, "batch": 16,
            "shots": [1], "draws": 2,
        },
        "hardware": {"accelerator": "cpu", "precision": "fp32", "checkpoint_minutes": 1e-9},
    }  # fmt: skip
    return Run(folder / "runs" / "tiny", check_values(Recipe, values | sections, "test"))


STAGES = {
    *("tiles", "tokenizer", "tokens", "maskgit", "views", "reconstructions", "targets", "pretrain", "compare"),
    *("report", "evaluate", "cost_benefit", "embed", "export timm", "export huggingface", "export torchgeo"),
}


def test_a_disk_that_fills_up_ends_each_stage_with_one_message_and_the_run_goes_on(
    full_disk: FullDisk, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcl_custom.views.cost_benefit.SEARCH_ROUNDS", 1)
    monkeypatch.setattr("gcl_custom.views.cost_benefit.ROUNDS", 1)
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "teacher.pth")
    whole, run = (run_in(folder, tmp_path) for folder in (tmp_path / "whole", disk))
    (tmp_path / "whole").mkdir()
    jobs.everything(whole)
    monkeypatch.setattr(jobs, "do", full_disk)
    jobs.everything(run)
    scores = [read_json(each.path / "compare" / "scores.json") for each in (whole, run)]
    assert scores[0] == scores[1]
    jobs.do("evaluate", run, ["theirs=untrained:test_resnet"], False)
    jobs.do("cost_benefit", run, 4)
    jobs.do("embed", run, disk / "scenes", disk / "e.npy", "gcl", 0, False)
    for form in ("timm", "huggingface", "torchgeo"):
        jobs.do("export", run, form, disk / form, "gcl", 0, False)
    assert full_disk.said.keys() == STAGES


def test_a_disk_that_holds_as_many_files_as_it_can_ends_stages_with_one_message(
    full_disk: FullDisk, disk: Path, tmp_path: Path
) -> None:
    draw(tmp_path / "imagery", bands=3, each=6, size=32)
    run = run_in(disk, tmp_path, data={"root": str(tmp_path / "imagery"), "size": 32})
    for stage in ("tiles", "tokenizer", "tokens"):
        with without_inodes(disk):
            said = full_disk.ended(lambda stage=stage: DO(stage, run))
        assert said is not None
        assert said.count("error: ") == 1
        assert "the disk is full, since it holds as many files as it can" in said
        DO(stage, run)


def captions(folder: Path) -> dict[str, Any]:
    return {"name": "diffusion", "model": "none", "captions": str(tiny_models.save_blip(folder / "blip"))}


def inverted(folder: Path) -> dict[str, Any]:
    torch.save(biggan_file.public_state(condition=2048), folder / "G_ema_best0.pth")
    torch.save(swav_file.swav_state(), folder / "swav_800ep_pretrain.pth.tar")
    weights = {"weights": str(folder / "G_ema_best0.pth"), "encoder": str(folder / "swav_800ep_pretrain.pth.tar")}
    return {"name": "icgan", **weights, "inversion_steps": 2}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, numpy 2
@pytest.mark.parametrize(
    ("generator", "strategy", "stages"),
    [
        (captions, None, ["tiles", "captions"]),
        (inverted, {"name": "steering", "edit": "shift", "steps": 2}, ["tiles", "latents", "edit"]),
    ],
)
def test_a_disk_that_fills_up_under_stages_of_other_generators(
    generator: Callable[[Path], dict[str, Any]],
    strategy: dict[str, Any] | None,
    stages: list[str],
    full_disk: FullDisk,
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gcl_custom.generator.public.icgan.CONDITION_SIDE", 32)
    draw(tmp_path / "imagery", bands=3, each=4, size=16)
    run = run_in(
        disk,
        tmp_path,
        data={"root": str(tmp_path / "imagery"), "size": 16},
        generator=generator(tmp_path),
        views={"strategy": strategy} if strategy else {},
    )
    for stage in stages:
        full_disk(stage, run)
    assert list(full_disk.said) == stages
