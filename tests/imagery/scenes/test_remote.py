"""Scenes on other machines, by a server on this one that answers requests for ranges."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_scenes import NORTH_UP, grid_from, settings, values, write_scene
from range_server import RangeServer, serving
from rasterio.errors import RasterioError

from gcl_custom.check.survey import survey
from gcl_custom.errors import UserError
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.decoding import reading
from gcl_custom.imagery.scenes import remote
from gcl_custom.imagery.scenes.remote import Remote, located, opened_remote
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.imagery import DataSettings, RemoteSettings, ScenesSettings, SplitSettings, is_address
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY_SECONDS", 0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    """It serves two scenes in folders of classes; a third one lies on this machine."""
    for number, name in enumerate(("served/forest/a", "served/water/b", "root/c")):
        place = grid_from(NORTH_UP, 96 * number)
        write_scene(tmp_path / f"{name}.tif", values(96, 96, seed=number), transform=place, compress=None)
    with serving(tmp_path / "served") as found:
        yield found


def data_of(tmp_path: Path, addresses: list[str] | str, **about: Any) -> DataSettings:
    split = SplitSettings(by="blocks", buffer_km=None)
    return settings(tmp_path / "root", remote=RemoteSettings(addresses=addresses, **about), data_split=split)


def both(server: RangeServer) -> list[str]:
    return [f"{server.address}/forest/a.tif", f"{server.address}/water/b.tif"]


def run_of(tmp_path: Path, data: DataSettings, name: str = "run") -> Run:
    return Run(tmp_path / name, Recipe(name=name, data=data))


def packed(tmp_path: Path, data: DataSettings, name: str = "run") -> TileStore:
    run = run_of(tmp_path, data, name)
    pack_tiles.pack_tiles(run)
    return TileStore(plan.tiles(run).path)


# ---------------------------------------------------------------- reading


def test_windows_have_the_pixels_of_the_served_scenes(server: RangeServer, tmp_path: Path) -> None:
    """Beside those of this machine; folders in an address say the class as others do."""
    data = data_of(tmp_path, both(server))
    checked = survey(data)
    store = packed(tmp_path, data)
    files = {both(server)[0]: "served/forest/a.tif", both(server)[1]: "served/water/b.tif", "c.tif": "root/c.tif"}
    seeds = {path: number for number, path in enumerate(files)}
    assert store.count == len(checked.split) == 3 * 36
    for number, source in enumerate(store.sources):
        assert source.window is not None
        rows, columns = source.window.ends
        truth = values(96, 96, seed=seeds[source.path])[:, slice(*rows), slice(*columns)]
        assert np.array_equal(store.read(torch.tensor([number]))[0].numpy(), truth)
    assert store.places is not None
    assert np.isfinite(store.places).all()


def test_folders_in_addresses_are_classes(server: RangeServer, tmp_path: Path) -> None:
    (tmp_path / "root" / "c.tif").unlink()
    store = packed(tmp_path, data_of(tmp_path, both(server)))
    assert store.classes == ["forest", "water"]
    assert all(
        store.classes[int(label)] in source.path for source, label in zip(store.sources, store.labels, strict=True)
    )


def test_only_what_is_asked_for_is_fetched(server: RangeServer, tmp_path: Path) -> None:
    write_scene(tmp_path / "served" / "large.tif", values(512, 512), compress=None)
    with reading(), opened_remote(Remote(f"{server.address}/large.tif", 5, 0)) as dataset:
        found = dataset.read(window=((300, 310), (70, 80)))
    assert np.array_equal(found, values(512, 512)[:, 300:310, 70:80])
    assert server.sent < 0.2 * (tmp_path / "served" / "large.tif").stat().st_size


def test_a_bucket_is_read_by_its_name(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("AWS_S3_ENDPOINT", server.address.removeprefix("http://")), ("AWS_HTTPS", "NO"),
        ("AWS_VIRTUAL_HOSTING", "FALSE"), ("AWS_NO_SIGN_REQUEST", "YES"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    for address in ("s3://forest/a.tif", "/vsis3/forest/a.tif"):
        with reading(), opened_remote(Remote(address, 5, 0)) as dataset:
            assert np.array_equal(dataset.read(), values(96, 96))


def test_a_busy_server_is_asked_again(server: RangeServer) -> None:
    server.busy = 2
    with reading(), opened_remote(Remote(both(server)[0], 5, 3)) as dataset:
        assert dataset.shape == (96, 96)
    server.busy = 2
    with reading(), pytest.raises(RasterioError), opened_remote(Remote(both(server)[0], 5, 0)):
        pass


def test_once_packed_nothing_is_asked_of_the_server(server: RangeServer, tmp_path: Path) -> None:
    data = data_of(tmp_path, both(server))
    store = packed(tmp_path, data)
    server.asked.clear()
    assert pack_tiles.changed(run_of(tmp_path, data)) is None
    assert packed(tmp_path, data_of(tmp_path, both(server), timeout_seconds=9.0, retries=1)).count == store.count
    assert server.asked == []


# ---------------------------------------------------------------- what goes wrong


def test_a_server_that_dies_ends_the_packing_which_then_goes_on(server: RangeServer, tmp_path: Path) -> None:
    """What was read is kept, nothing counts as done, and the end is that of an undisturbed packing."""
    data = data_of(tmp_path, both(server))
    whole = packed(tmp_path, data, "whole")
    needed = len(server.asked)
    for after in (needed // 3, needed // 2, needed - 1):
        server.asked.clear()
        server.dies_after = after
        with pytest.raises(UserError, match=rf"data\.scenes\.remote: {server.address}.* cannot be read .* start again"):
            packed(tmp_path, data)
        assert not (tmp_path / "run" / "tiles" / "tiles.safetensors").exists()
        assert not plan.tiles(run_of(tmp_path, data)).done
    server.dies_after = None
    again = packed(tmp_path, data)
    for name in ("tiles-00000.bin", "tiles.safetensors"):
        assert (again.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_damage_on_the_server_is_that_of_a_file(server: RangeServer, tmp_path: Path) -> None:
    """The connection holds, so the windows that lie there are unusable and the others are tiles."""
    path = tmp_path / "served" / "forest" / "a.tif"
    write_scene(path, values(96, 96), interleave="pixel")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 400)
        file.write(b"\xff" * 400)
    data = data_of(tmp_path, both(server)).model_copy(update={"bad_files": 0.5})
    store = packed(tmp_path, data)
    assert 72 < store.count < 108
    lines = (store.path / "unusable.txt").read_text().splitlines()
    assert all("forest/a.tif#" in line and "truncated or damaged" in line for line in lines)


def test_what_is_not_there_is_named(server: RangeServer, tmp_path: Path) -> None:
    data = data_of(tmp_path, [*both(server), f"{server.address}/nowhere.tif"])
    with pytest.raises(
        UserError, match=r"/nowhere\.tif cannot be read \(HTTP response code: 404\)\. Check the address"
    ):
        survey(data)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/a.tif"
        with pytest.raises(UserError, match=r"cannot be read .*timed out.*data\.scenes\.remote\.timeout_seconds"):
            survey(data_of(tmp_path, [address], timeout_seconds=0.3, retries=0))


def test_a_virtual_raster_on_the_server_reads_nothing_else(server: RangeServer, tmp_path: Path) -> None:
    (tmp_path / "served" / "v.tif").write_text(
        '<VRTDataset rasterXSize="96" rasterYSize="96"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f"<SourceFilename>/vsicurl/{server.address}/secret.tif</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    data = data_of(tmp_path, [*both(server), f"{server.address}/v.tif"]).model_copy(update={"bad_files": 0.5})
    store = packed(tmp_path, data)
    assert store.count == 108
    assert "no raster" in (store.path / "unusable.txt").read_text()
    assert not any("secret" in path for path, _ in server.asked)


# ---------------------------------------------------------------- which addresses


def test_addresses_may_stand_in_a_list(server: RangeServer, tmp_path: Path) -> None:
    (tmp_path / "root" / "list.txt").write_text("# two scenes\n" + "\n".join(both(server)) + "\n\n")
    assert len(survey(data_of(tmp_path, "list.txt")).split) == 108
    for content, reason in (("a.tif\n", "'a.tif' in .* is no address"), ("# none\n", "holds no address")):
        (tmp_path / "root" / "list.txt").write_text(content)
        with pytest.raises(UserError, match=rf"data\.scenes\.remote\.addresses: .*{reason}"):
            survey(data_of(tmp_path, "list.txt"))
    with pytest.raises(UserError, match=r"data\.scenes\.remote\.addresses: there is no file"):
        survey(data_of(tmp_path, "other.txt"))


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("https://a.org/b.tif", True), ("http://a.org/b/c.tif", True), ("s3://bucket/b.tif", True),
        ("/vsicurl/https://a.org/b.tif", True), ("/vsis3/bucket/b.tif", True),
        ("/vsicurl/file:///etc/passwd", False), ("file:///etc/passwd", False), ("/vsizip/a.zip/b.tif", False),
        ("https://a.org", False), ("/vsicurl/a.tif", False), ("a.tif", False), ("s3://bucket", False),
    ],
)  # fmt: skip
def test_which_texts_are_addresses(text: str, known: bool) -> None:
    assert is_address(text) == known
    if not known:
        with pytest.raises(ValueError, match="is no address"):
            RemoteSettings(addresses=[text])


def test_a_single_address_is_asked_to_be_a_list() -> None:
    with pytest.raises(ValueError, match=r"give a list, \[https://a\.org/b\.tif\]"):
        RemoteSettings(addresses="https://a.org/b.tif")


def test_no_path_is_an_address_unless_the_recipe_says_so(tmp_path: Path) -> None:
    address = "https://a.org/b.tif"
    said = ScenesSettings(remote=RemoteSettings(addresses=[address]))
    assert located(tmp_path, address, said) == Remote(address, 30.0, 3)
    assert located(tmp_path, "b.tif", said) == tmp_path / "b.tif"
    for scenes in (None, ScenesSettings()):
        assert located(tmp_path, address, scenes) == tmp_path / address
    assert Remote(address, 1, 0).beside("_clouds.tif").address == "https://a.org/b_clouds.tif"
