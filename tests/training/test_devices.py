import pytest
import torch

from gcl_custom.errors import UserError
from gcl_custom.launcher import Launch
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.training import devices
from gcl_custom.training.devices import Pieces, autocast, described, pick_device, uses_bf16

CPU = torch.device("cpu")


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_precision_is_what_the_recipe_says(precision: str, dtype: torch.dtype) -> None:
    with autocast(HardwareSettings(precision=precision), CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_auto_uses_bf16_only_where_there_are_units_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for capable in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capable: {"amx_bf16": c, "avx512_bf16": False})
        assert uses_bf16(HardwareSettings(), CPU) is capable
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # as in torch 2.6
    assert uses_bf16(HardwareSettings(), CPU) is False


def test_a_missing_accelerator_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device(HardwareSettings()) == CPU
    with pytest.raises(UserError, match="finds none here"):
        pick_device(HardwareSettings(accelerator="gpu"))


def test_a_processor_is_described_with_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one = described(CPU)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert one.endswith(", 1 thread")
    assert described(CPU) == one.removesuffix("1 thread") + "4 threads"


def test_where_memory_is_short_fewer_tiles_are_taken_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    room, tried = 3, list[int]()

    def make(tiles: torch.Tensor) -> torch.Tensor:
        tried.append(len(tiles))
        if len(tiles) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 2 * tiles

    in_pieces = Pieces(8, "views")
    for tiles in (torch.arange(8), torch.arange(3)):
        assert torch.equal(torch.cat(in_pieces(make, tiles)), 2 * tiles)
    assert tried == [8, 4, 2, 2, 2, 2, 2, 1], "what was found is kept"
    assert "views: out of memory; going on with 2 tiles at a time" in capsys.readouterr().out
    room = 0
    with pytest.raises(UserError, match=r"^views: the device has not enough memory for one tile"):
        in_pieces(make, torch.arange(8))


CPU, FP32 = torch.device("cpu"), torch.float32


def test_precision_is_the_recipes_and_else_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    for device in (CPU, gpu):
        assert devices.precision_of(HardwareSettings(precision="fp32"), device) == FP32
        assert devices.precision_of(HardwareSettings(precision="bf16"), device) == torch.bfloat16
    assert devices.precision_of(HardwareSettings(), gpu) == torch.float16
    for has_units, wanted in ((True, torch.bfloat16), (False, FP32)):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda found=has_units: {"avx512_bf16": found})
        assert devices.precision_of(HardwareSettings(), CPU) == wanted


def test_a_launcher_has_to_start_what_the_recipe_asks_for() -> None:
    started = Launch("torchrun", rank=0, local_rank=0, processes=4, nodes=2)
    devices.require_processes(HardwareSettings(devices=2, nodes=2), started)
    devices.require_processes(HardwareSettings(devices=2), None)
    with pytest.raises(UserError, match=r"hardware\.nodes is 2, but this command was started alone"):
        devices.require_processes(HardwareSettings(nodes=2), None)
    for wrong in (HardwareSettings(), HardwareSettings(nodes=4), HardwareSettings(devices=4)):
        with pytest.raises(UserError, match=r"Use --set hardware\.nodes=2 --set hardware\.devices=2$"):
            devices.require_processes(wrong, started)


def test_more_devices_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    devices.require_devices(HardwareSettings(accelerator="cpu", devices=2))
    with pytest.raises(UserError, match=r"is 256, but there can be \d+ processes on this CPU\. Use --set hardware"):
        devices.require_devices(HardwareSettings(accelerator="cpu", devices=256))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    devices.require_devices(HardwareSettings(devices=3))
    with pytest.raises(UserError, match=r"is 4, but there can be 3 GPUs here\. Use --set hardware\.devices=3"):
        devices.require_devices(HardwareSettings(devices=4))
