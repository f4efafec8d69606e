"""aMUSEd (arXiv:2401.01808): a public tokenizer of 8,192 codes and a masked transformer, asked with the empty prompt.

Source: amused/amused-256 and amused/amused-512 on the hub, openrail++; the networks are those of diffusers.

    b  tiles     c  bands     H W  pixels     d  width of a code     h w  grid of tokens     n  tokens of a tile
    v  codes     p  positions of all tiles whose logits are wanted, packed

A model is a folder as the hub has it, with a folder for each part: transformer, vqvae, text_encoder, tokenizer. Its
scheduler is not needed: it takes one share of hidden tokens for a whole batch, and our own in-painting takes each
tile's own. The text encoder is needed once, for the empty prompt, and is not kept.

What fine-tuning saves is laid over the public model: ``AmusedTransformer.from_folder(model, where)`` and then
``weights.load_weights(path, network)``, and the same for the tokenizer. Names are those of the public files behind the
name of their folder: ``transformer.embed.conv.weight`` is ``embed.conv.weight`` in ``transformer/``.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.vq_model import VQModel
from diffusers.models.unets.uvit_2d import UVit2DModel
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import CLIPTokenizer

from gcl_custom.errors import UserError
from gcl_custom.generator import hub
from gcl_custom.generator.pretrained import PretrainedTokenizer, PretrainedTransformer

AESTHETIC_SCORE = 6
"""What aMUSEd's own pipelines ask for, on the scale of 1 to 10 that it was trained with."""

NETWORKS = {
    "transformer": ("diffusers", "UVit2DModel"),
    "vqvae": ("diffusers", "VQModel"),
    "text_encoder": ("transformers", "CLIPTextModelWithProjection"),
}
"""By the name of their part: where their class stands, and its name."""
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")


class AmusedTokenizer(PretrainedTokenizer):
    """aMUSEd's VQGAN, always in fp32; see ``PretrainedTokenizer`` for what it offers."""

    def __init__(self, vqvae: VQModel) -> None:
        super().__init__()
        self.vqvae = vqvae
        self.pixels_per_token = _pixels_per_token(vqvae.config)

    @classmethod
    def from_folder(cls, model: str | Path, where: str) -> "AmusedTokenizer":
        """The tokenizer of a model.

        Args:
            model: a folder, or the name on the hub of a model that its client has fetched before.

        Raises:
            UserError: it is not there, lacks a part, or a weight is missing, surplus or of another shape.
        """
        return cls(_network(_folder(model, where, "vqvae"), "vqvae", where))

    @property
    def codebook(self) -> Float[Tensor, "v d"]:
        return self.vqvae.quantize.embedding.weight

    @property
    def last_layer(self) -> Tensor:
        return self.vqvae.decoder.conv_out.weight

    def _features(self, tiles: Float[Tensor, "b c H W"]) -> Float[Tensor, "b d h w"]:
        with torch.autocast(tiles.device.type, enabled=False):
            return self.vqvae.encode(tiles).latents

    def _tiles(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c H W"]:
        with torch.autocast(features.device.type, enabled=False):
            return self.vqvae.decoder(self.vqvae.post_quant_conv(features))


class AmusedTransformer(PretrainedTransformer):
    """aMUSEd's transformer with the empty prompt; see ``PretrainedTransformer`` for what it offers.

    Args:
        states, pooled: what the text encoder gives for the empty prompt: the last layer but one, and the projection.
        side: of the tiles that it was trained on, in pixels.
    """

    states: Tensor
    pooled: Tensor
    about: Tensor

    def __init__(
        self, transformer: UVit2DModel, states: Float[Tensor, "1 m e"], pooled: Float[Tensor, "1 f"], side: int
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.codes, self.grid = int(transformer.config.codebook_size), int(transformer.config.sample_size)
        self.mask = int(transformer.config.vocab_size) - 1
        about = torch.tensor([[side, side, 0, 0, AESTHETIC_SCORE]], dtype=torch.float32)
        for name, value in (("states", states), ("pooled", pooled), ("about", about)):
            self.register_buffer(name, value, persistent=False)  # they come from the folder, not from training

    @classmethod
    def from_folder(cls, model: str | Path, where: str) -> "AmusedTransformer":
        """The transformer of a model.

        Args:
            model: a folder, or the name on the hub of a model that its client has fetched before.

        Raises:
            UserError: it is not there, lacks a part, or a weight is missing, surplus or of another shape.
        """
        folder = _folder(model, where, *NETWORKS, "tokenizer")
        transformer = _network(folder, "transformer", where)
        square = _pixels_per_token(_config(folder, "vqvae", where))
        return cls(transformer, *_empty_prompt(folder, where), side=square * int(transformer.config.sample_size))

    def logits_at(
        self, tokens: Int[Tensor, "b h w"], hidden: Bool[Tensor, "b h w"], at: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "p v"]:
        asked = at.any(dim=1)  # other tiles need not be computed
        ids = tokens.masked_fill(hidden, self.mask)[asked]
        logits = self.transformer(
            ids,
            encoder_hidden_states=self.states.expand(len(ids), -1, -1),
            pooled_text_emb=self.pooled.expand(len(ids), -1),
            micro_conds=self.about.expand(len(ids), -1),
        )
        return logits.flatten(2).transpose(1, 2)[at[asked]]


@torch.no_grad()
def _empty_prompt(folder: Path, where: str) -> tuple[Tensor, Tensor]:
    """What the text encoder gives for the empty prompt: the last layer but one, and the projection."""
    words = folder / "tokenizer"
    absent = [name for name in TOKENIZER_FILES if not (words / name).is_file()]
    if absent:  # transformers would take a tokenizer of its own in place of this one
        raise UserError(f"{where}: {words} has no {', '.join(absent)}")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(words, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: {words} cannot be read as a tokenizer: {str(error).splitlines()[0]}") from None
    encoder = _network(folder, "text_encoder", where).eval()
    length = encoder.config.max_position_embeddings
    ids = tokenizer("", return_tensors="pt", padding="max_length", max_length=length).input_ids
    given = encoder(ids, output_hidden_states=True)
    return given.hidden_states[-2], given.text_embeds


def _folder(model: str | Path, where: str, *parts: str) -> Path:
    """Where a model lies, with its parts."""
    folder = hub.folder_of(str(model), where)
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        raise UserError(
            f"{where}: {folder} is no whole model of aMUSEd: it has no {', '.join(missing)}. Copy the folder as the "
            f"hub has it, with its folders {', '.join(parts)}"
        )
    return folder


def _network(folder: Path, part: str, where: str) -> Any:
    """A network in fp32, in training and with gradients, as one that is built anew."""
    _config(folder, part, where)
    network = hub.load_network(*NETWORKS[part], folder / part, f"aMUSEd's part {part}", where, torch.float32)
    return network.train().requires_grad_(True)


def _config(folder: Path, part: str, where: str) -> dict[str, Any]:
    """The configuration of a part, if it is one of the network that is expected."""
    path, kind = folder / part / "config.json", NETWORKS[part][1]
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        named = config["_class_name"] if "_class_name" in config else config["architectures"][0]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise UserError(f"{where}: {path} cannot be read as the configuration of a {kind}: {error!r}") from None
    if named != kind:
        raise UserError(f"{where}: {path} is the configuration of a {named}; aMUSEd has a {kind} there")
    return dict(config)


def _pixels_per_token(config: Any) -> int:
    """Side of a token's square, from the configuration of the tokenizer: each level but the first halves once."""
    return 2 ** (len(config["block_out_channels"]) - 1)
