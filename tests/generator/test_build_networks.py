"""Own and public networks, with their weights."""

from pathlib import Path

import pytest
import torch

from gcl_custom.errors import UserError
from gcl_custom.generator import build_networks
from gcl_custom.recipe.generator import MaskGITSettings, PublicTokenizerSettings, TokenizerSettings
from gcl_custom.weights.state_dicts import save_weights

SMALL = {"codes": 16, "code_width": 4, "channels": 16, "blocks": 1}


def test_own_networks_start_from_weights_or_from_nothing(tmp_path: Path) -> None:
    start = build_networks.tokenizer(TokenizerSettings(**SMALL), 2)
    save_weights(tmp_path / "vqgan.safetensors", start)
    again = build_networks.tokenizer(
        TokenizerSettings(**SMALL, weights=str(tmp_path / "vqgan.safetensors"), epochs=0), 2
    )
    assert all(torch.equal(a, b) for a, b in zip(start.state_dict().values(), again.state_dict().values(), strict=True))
    with pytest.raises(UserError, match="does not fit VQGAN"):
        build_networks.tokenizer(
            TokenizerSettings(**{**SMALL, "codes": 8}, weights=str(tmp_path / "vqgan.safetensors")), 2
        )
    settings = {"width": 32, "depth": 1, "heads": 2}
    first = build_networks.transformer(MaskGITSettings(**settings), 16, 4)
    save_weights(tmp_path / "maskgit.safetensors", first)
    second = build_networks.transformer(
        MaskGITSettings(**settings, weights=str(tmp_path / "maskgit.safetensors")), 16, 4
    )
    assert torch.equal(first.embedding.weight, second.embedding.weight)


def test_a_public_tokenizer_sees_red_green_and_blue() -> None:
    with pytest.raises(UserError, match="llamagen sees red, green and blue, but the tiles have 4 bands"):
        build_networks.tokenizer(PublicTokenizerSettings(name="llamagen", weights="vq.pt"), 4)
