import shutil
from pathlib import Path

import pytest
import torch

from gcl_custom.errors import UserError
from gcl_custom.generator.public.captions import LONGEST, Captioner, CaptionFile

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import save_blip

    return save_blip(tmp_path_factory.mktemp("captions") / "blip")


def test_the_most_likely_word_at_each_place(model: Path) -> None:
    """Against a loop over BLIP's two networks, tile by tile, from pixels that the test prepares itself."""
    from transformers import BlipForConditionalGeneration, BlipProcessor

    tiles = torch.rand(4, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    tiles[1], tiles[2, :2] = 0.1, 0.9
    found = Captioner(str(model), "generator", bands=3, device=CPU).captions(tiles)
    assert len(set(found)) > 1

    blip, words = BlipForConditionalGeneration.from_pretrained(model), BlipProcessor.from_pretrained(model).tokenizer
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    for tile, caption in zip(tiles, found, strict=True):
        seen = torch.nn.functional.interpolate(tile[None], (24, 24), mode="bicubic", antialias=True)
        tokens = [blip.config.text_config.bos_token_id]
        with torch.no_grad():
            states = blip.vision_model((seen - mean[:, None, None]) / std[:, None, None]).last_hidden_state
            for _ in range(LONGEST):
                logits = blip.text_decoder(torch.tensor([tokens]), encoder_hidden_states=states).logits
                tokens.append(int(logits[0, -1].argmax()))
                if tokens[-1] == blip.config.text_config.sep_token_id:
                    break
        assert caption == words.decode(tokens, skip_special_tokens=True).strip()


def test_a_caption_does_not_depend_on_its_batch(model: Path) -> None:
    tiles = torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    captioner = Captioner(str(model), "generator", bands=3, device=CPU)
    assert captioner.captions(tiles) == [captioner.captions(tile[None])[0] for tile in tiles]


def test_what_is_missing_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bands is 4"):
        Captioner("no/model", "generator", bands=4, device=CPU)
    with pytest.raises(UserError, match="generator: no/model is no folder"):
        Captioner("no/model", "generator", bands=3, device=CPU)
    copy = Path(shutil.copytree(model, tmp_path / "blip"))
    for file in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        (copy / file).unlink()
    with pytest.raises(UserError, match=r"its tokenizer or image processor in .* is missing or damaged"):
        Captioner(str(copy), "generator", bands=3, device=CPU)
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no safetensors"):
        Captioner(str(copy), "generator", bands=3, device=CPU)


def test_captions_are_kept_by_the_number_of_the_tile(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    file = CaptionFile(path)
    assert file.missing(torch.tensor([5, 2])).tolist() == [5, 2]
    file.append(torch.tensor([5, 2]), ["ein Wald über dem See", 'a "lake"'])
    file.append(torch.tensor([9]), ["森"])
    assert (len(CaptionFile(tmp_path / "none")), len(file), len(CaptionFile(path))) == (0, 3, 3)
    assert "über" in path.read_text(encoding="utf-8")
    again = CaptionFile(path)
    assert again.read(torch.tensor([9, 2, 5, 2])) == ["森", 'a "lake"', "ein Wald über dem See", 'a "lake"']
    assert again.missing(torch.tensor([1, 2, 9, 4])).tolist() == [1, 4]
    with pytest.raises(UserError, match=r"captions\.jsonl has no caption of tile 4;.* Run: gcl-custom fit-generator"):
        again.read(torch.tensor([2, 4]))


def test_a_torn_last_line_is_cut_wherever_it_broke_off(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    CaptionFile(path).append(torch.tensor([1]), ["a lake"])
    first = path.read_bytes()
    CaptionFile(path).append(torch.tensor([2]), ["wide: 森"])
    whole = path.read_bytes()
    for end in range(len(first), len(whole)):
        path.write_bytes(whole[:end])
        torn = CaptionFile(path)
        assert torn.missing(torch.tensor([1, 2])).tolist() == [2]
        assert path.read_bytes() == whole[:end], "reading changes nothing"
        torn.append(torch.tensor([2]), ["wide: 森"])
        assert path.read_bytes() == whole


@pytest.mark.parametrize("line", [b"{}", b"[1]", b'{"tile": 1, "caption": ', b"\xff\xfe", b""])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_bytes(b'{"tile": 1, "caption": "a"}\n' + line + b'\n{"tile": 2, "caption": "b"}\n')
    with pytest.raises(UserError, match=r"captions\.jsonl, line 2, is no caption"):
        CaptionFile(path)
