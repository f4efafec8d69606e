from pathlib import Path

import pytest
import torch

from gcl_custom.errors import UserError
from gcl_custom.generator import networks
from gcl_custom.recipe_generator import MaskGIT, PublicTokenizer, Tokenizer
from gcl_custom.weights import save_weights

SMALL = {"codes": 16, "code_width": 4, "channels": 16, "blocks": 1}


def test_own_networks_start_from_weights_or_from_nothing(tmp_path: Path) -> None:
    start = networks.tokenizer(Tokenizer(**SMALL), 2)
    save_weights(tmp_path / "vqgan.safetensors", start)
    again = networks.tokenizer(Tokenizer(**SMALL, weights=str(tmp_path / "vqgan.safetensors"), epochs=0), 2)
    assert all(torch.equal(a, b) for a, b in zip(start.state_dict().values(), again.state_dict().values(), strict=True))
    with pytest.raises(UserError, match="does not fit VQGAN"):
        networks.tokenizer(Tokenizer(**{**SMALL, "codes": 8}, weights=str(tmp_path / "vqgan.safetensors")), 2)
    settings = {"width": 32, "depth": 1, "heads": 2}
    first = networks.transformer(MaskGIT(**settings), 16, 4)
    save_weights(tmp_path / "maskgit.safetensors", first)
    second = networks.transformer(MaskGIT(**settings, weights=str(tmp_path / "maskgit.safetensors")), 16, 4)
    assert torch.equal(first.embedding.weight, second.embedding.weight)


def test_a_public_tokenizer_sees_red_green_and_blue() -> None:
    with pytest.raises(UserError, match="llamagen sees red, green and blue, but the tiles have 4 bands"):
        networks.tokenizer(PublicTokenizer(name="llamagen", weights="vq.pt"), 4)
