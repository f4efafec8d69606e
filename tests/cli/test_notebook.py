"""``import gcl_custom`` in a notebook gives what the commands give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import gcl_custom
from gcl_custom.cli import jobs, notebook
from gcl_custom.errors import UserError
from gcl_custom.export.embed import embed
from gcl_custom.files import write_json, write_text
from gcl_custom.recipe.file import dump_recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


@pytest.fixture(scope="module")
def run(make_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on GeoTIFFs of four bands of uint16, kept as a command keeps it."""
    return kept(make_run(tmp_path_factory.mktemp("bands"), bands=4))


def kept(run: Any) -> Run:
    with run.saved():
        return run  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("bands", "stem", "arm", "seed"), [(4, "standard", "gcl", None), (3, "small", "handcrafted", 4)]
)
def test_network_and_transform_give_the_rows_of_the_table(
    make_run: Callable[..., Any], tmp_path: Path, bands: int, stem: str, arm: str, seed: int | None
) -> None:
    """And the table is that of the command; JPEGs, larger than a tile, are among the files."""
    made = kept(make_run(tmp_path, backbone="resnet10t", bands=bands, stem=stem))
    folder = Path(made.recipe.data.root)
    if bands == 3:
        noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((160, 120)).save(folder / "photo.jpg")
    table = gcl_custom.embed(made.path, folder, arm=arm, seed=seed)
    network, transform = gcl_custom.load(made.path, arm=arm, seed=seed)
    with torch.inference_mode():
        found = network(torch.stack([transform(folder / file) for file in table["file"].to_pylist()]))
    assert len(found) == 96 + (bands == 3)
    np.testing.assert_allclose(np.stack(table["representation"].to_numpy()), found.numpy(), rtol=1e-4, atol=1e-5)
    embed(made, folder, tmp_path / "all.parquet", arm, seed)
    assert table.equals(pyarrow.parquet.read_table(tmp_path / "all.parquet"), check_metadata=True)


def test_the_network_is_timm_s_own_and_ready_to_use(run: Run) -> None:
    network, _ = gcl_custom.load(run.path)
    assert not any(module.training or type(module).__module__.startswith("gcl_custom") for module in network.modules())
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}


def test_a_dataloader_reads_files_in_its_processes(run: Run) -> None:
    _, transform = gcl_custom.load(run.path)
    files = sorted(Path(run.recipe.data.root).rglob("*.tif"))[:5]
    loader = torch.utils.data.DataLoader(Files(files, transform), batch_size=3, num_workers=1)
    assert torch.equal(torch.cat([*loader]), torch.stack([transform(file) for file in files]))


class Files(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, files: list[Path], transform: Callable[[Path], torch.Tensor]) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, item: int) -> torch.Tensor:
        return self.transform(self.files[item])


def test_a_run_is_found_by_name_by_path_and_as_the_latest(run: Run) -> None:
    runs = run.path.parent
    for given, folder in ((None, runs), ("trial", str(runs)), (run.path, "runs"), (str(run.path), "runs")):
        assert notebook._opened(given, folder).path == run.path
    with pytest.raises(UserError, match=r"There is no run 'trail' in .*There are: trial"):
        gcl_custom.load("trail", runs=runs)


def test_some_unusable_files_are_left_out_with_a_warning(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lake = Path(run.recipe.data.root) / "lake"
    (lake / "bad.tif").write_text("no image")
    try:
        table = gcl_custom.embed(run.path, lake)
    finally:
        (lake / "bad.tif").unlink()
    assert len(table) == 32
    said = capsys.readouterr().out
    assert "1 of 33 files is unusable and left out (1 not an image)" in said
    assert "bad.tif: not an image" in said


def test_scores_are_those_of_the_finished_comparison_or_evaluation(
    make_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = kept(make_run(tmp_path))
    with pytest.raises(
        UserError, match=r"comparison or evaluation\. Run: gcl-custom compare-supervised --run trial --runs .* or"
    ):
        gcl_custom.scores(run.path)
    evaluated = {"tiles": plan.tiles(run).output, "scores": {"ours": {}}}
    (run.path / "evaluate").mkdir()
    write_json(run.path / "evaluate" / "scores.json", evaluated)
    assert gcl_custom.scores(run.path) == evaluated
    with pytest.raises(UserError, match="of a finished compare"):
        gcl_custom.scores(run.path, stage="compare")
    stage = plan.compare(run)
    stage.begin()
    write_json(stage.path / "scores.json", {"verdict": "good"})
    assert gcl_custom.scores(run.path) == evaluated  # the comparison is not finished
    stage.finish()
    assert gcl_custom.scores(run.path) == {"verdict": "good"}
    assert gcl_custom.scores(run.path, stage="evaluate") == evaluated
    write_json(run.path / "evaluate" / "scores.json", {**evaluated, "tiles": "others"})
    with pytest.raises(UserError, match="of other tiles"):
        gcl_custom.scores(run.path, stage="evaluate")


def test_overrides_are_those_of_set(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "mine.yaml", dump_recipe(run.recipe))
    done: list[Run] = []
    monkeypatch.setattr(jobs, "everything", done.append)
    changes: dict[str, Any] = {
        "name": "other",
        "seed": 7,
        "data": {"root": tmp_path},
        "pretrain": {"epochs": 2, "optimizer": {"learning_rate": 1e-3}, "method": {"projector": [8, 8]}},
        "compare": {"arms": ["gcl"], "fractions": []},
    }
    folder = gcl_custom.run(tmp_path / "mine.yaml", runs=tmp_path / "runs", **changes)
    assert folder == tmp_path / "runs" / "other"
    (made,) = done
    assert made.recipe.data.root == str(tmp_path)
    assert (made.recipe.name, made.recipe.seed, made.recipe.pretrain.epochs) == ("other", 7, 2)
    assert (made.recipe.pretrain.method.projector, made.recipe.pretrain.optimizer.learning_rate) == ([8, 8], 1e-3)
    assert (made.recipe.compare.arms, made.recipe.compare.fractions) == (["gcl"], [])
    assert made.recipe.data.size == 32  # what is not named stays
    with pytest.raises(UserError, match=r"pretrain\.epoch: unknown key; did you mean 'epochs'"):
        gcl_custom.run(tmp_path / "mine.yaml", runs=tmp_path / "runs", pretrain={"epoch": 2})


def test_the_package_offers_four_functions_and_no_others() -> None:
    assert set(gcl_custom.__all__) <= set(dir(gcl_custom))
    assert all(getattr(gcl_custom, name) is getattr(notebook, name) for name in gcl_custom.__all__)
    with pytest.raises(AttributeError, match="'gcl_custom' has no attribute 'lod'"):
        gcl_custom.lod  # noqa: B018
