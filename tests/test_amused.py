"""aMUSEd: tiny models in the public layout, against diffusers' own classes and its scheduler."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.vq_model import VQModel
from diffusers.models.unets.uvit_2d import UVit2DModel
from diffusers.schedulers import scheduling_amused
from diffusers.schedulers.scheduling_amused import AmusedScheduler
from families import Spoil, TransformerLaws, with_zeros, without
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from gcl_custom.errors import UserError
from gcl_custom.generator.amused import AmusedTokenizer, AmusedTransformer
from gcl_custom.generator.inpainting import inpaint
from gcl_custom.generator.maskgit import Cache
from gcl_custom.randomness import Randomness
from gcl_custom.recipe import Views
from gcl_custom.weights import load_weights, save_weights

CODES, GRID = 24, 4


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def save_amused(folder: Path, channels: tuple[int, ...] = (8, 8, 16)) -> Path:
    """Networks of aMUSEd's kinds, much smaller: 4x4 tokens, by default of 4x4 pixels, saved as the hub has them."""
    torch.manual_seed(0)
    vqvae = VQModel(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        latent_channels=6,
        norm_num_groups=4,
        num_vq_embeddings=CODES,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    )
    transformer = UVit2DModel(
        hidden_size=16,
        cond_embed_dim=12,
        micro_cond_encode_dim=4,
        micro_cond_embed_dim=20,
        encoder_hidden_size=8,
        vocab_size=CODES + 8,
        codebook_size=CODES,
        in_channels=16,
        block_out_channels=16,
        num_res_blocks=1,
        block_num_heads=2,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        sample_size=GRID,
    )
    config = CLIPTextConfig(
        vocab_size=4,
        hidden_size=8,
        projection_dim=12,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=7,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    text_encoder = CLIPTextModelWithProjection(config)
    with torch.no_grad():  # away from the start of training, so that a wrong weight or condition shows
        for network in (vqvae, transformer, text_encoder):
            for parameter in network.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    vqvae.save_pretrained(folder / "vqvae")
    transformer.save_pretrained(folder / "transformer")
    text_encoder.save_pretrained(folder / "text_encoder")
    save_words(folder / "tokenizer")
    AmusedScheduler(mask_token_id=CODES + 7).save_pretrained(folder / "scheduler")
    return folder


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_amused(tmp_path_factory.mktemp("amused"))


def save_words(folder: Path) -> None:
    """A tokenizer of one letter in CLIP's own files; the padding is not the end of the text."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": "!"}
    files = {
        "vocab.json": {start: 0, end: 1, "!": 2, "!</w>": 3},
        "special_tokens_map.json": special,
        "tokenizer_config.json": {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 7},
    }
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "merges.txt").write_text("#version: 0.2\n")


@pytest.fixture(scope="module")
def transformer(public: Path) -> AmusedTransformer:
    return AmusedTransformer.from_folder(public, "here").eval()


@pytest.fixture(scope="module")
def tokenizer(public: Path) -> AmusedTokenizer:
    return AmusedTokenizer.from_folder(str(public), "here").eval()


def example(tiles: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    hidden = torch.rand(tiles, GRID, GRID) < 0.4
    hidden[1] = False
    return torch.randint(CODES, (tiles, GRID, GRID)), hidden


def of_diffusers(public: Path, ids: Tensor) -> Tensor:
    """Logits as aMUSEd's pipelines compute them, with the empty prompt."""
    network = UVit2DModel.from_pretrained(public, subfolder="transformer").eval()
    encoder = CLIPTextModelWithProjection.from_pretrained(public, subfolder="text_encoder").eval()
    words = CLIPTokenizer.from_pretrained(public, subfolder="tokenizer")
    prompt = words([""] * len(ids), return_tensors="pt", padding="max_length", truncation=True, max_length=7).input_ids
    assert prompt[0].tolist() == [0, 1, 2, 2, 2, 2, 2]
    with torch.no_grad():
        given = encoder(prompt, return_dict=True, output_hidden_states=True)
        logits = network(
            ids,
            encoder_hidden_states=given.hidden_states[-2],
            pooled_text_emb=given.text_embeds,
            micro_conds=torch.tensor([[16.0, 16.0, 0.0, 0.0, 6.0]] * len(ids)),
        )
    return logits.permute(0, 2, 3, 1)


def test_logits_are_those_of_diffusers_with_the_empty_prompt(public: Path, transformer: AmusedTransformer) -> None:
    assert (transformer.codes, transformer.grid) == (CODES, GRID)
    tokens, hidden = example()
    with torch.no_grad():
        logits = transformer(tokens, hidden)
    torch.testing.assert_close(logits, of_diffusers(public, tokens.masked_fill(hidden, CODES + 7)))
    assert logits.std() > 0.1


def test_the_size_of_the_tiles_goes_into_the_condition(transformer: AmusedTransformer) -> None:
    tokens, hidden = example()
    logits = transformer(tokens, hidden)
    other = AmusedTransformer(transformer.transformer, transformer.states, transformer.pooled, side=512)
    assert not torch.allclose(other(tokens, hidden), logits)
    assert other.about.tolist() == [[512, 512, 0, 0, 6]]


class TestLaws(TransformerLaws):
    @pytest.fixture
    def loaded(self, transformer: AmusedTransformer) -> AmusedTransformer:
        return transformer


class Watched:
    """A transformer that notes what is shown and hidden when it is asked."""

    def __init__(self, network: AmusedTransformer) -> None:
        self.network = network
        self.seen: list[tuple[Tensor, Tensor]] = []

    def predict(
        self, tokens: Tensor, hidden: Tensor, at: Tensor, cache: Cache, changed: Tensor | None = None
    ) -> Tensor:
        self.seen.append((tokens.clone(), hidden.clone()))
        return self.network.predict(tokens, hidden, at, cache, changed)


def test_a_greedy_step_keeps_the_tokens_that_the_scheduler_keeps(
    transformer: AmusedTransformer, public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scheduler takes one share of hidden tokens for the batch, so here every tile hides ten."""
    tokens = torch.randint(CODES, (4, GRID, GRID))
    hidden = (torch.rand(4, GRID**2).argsort(dim=1) < 10).view(4, GRID, GRID)
    rng = Randomness(0, "views", 0, torch.arange(4))
    u = rng.uniform("token 0", GRID**2).flatten()

    def drawn(p: Tensor, number: int, generator: object = None) -> Tensor:
        """In place of torch's random draw, the same uniform numbers that in-painting draws with."""
        return (p.cumsum(dim=1) <= (u * p.sum(dim=1))[:, None]).sum(dim=1, keepdim=True)

    monkeypatch.setattr(scheduling_amused.torch, "multinomial", drawn)
    scheduler = AmusedScheduler.from_pretrained(public, subfolder="scheduler")
    scheduler.set_timesteps(3, (0, 0))
    ids = tokens.masked_fill(hidden, CODES + 7)
    logits = of_diffusers(public, ids).permute(0, 3, 1, 2)
    expected = scheduler.step(logits, 2, ids, starting_mask_ratio=10 / 16).prev_sample

    watched = Watched(transformer)
    inpaint(watched, tokens, hidden, rng, Views(decoding_steps=3, temperature=0.0))
    shown, still_hidden = watched.seen[1]
    assert torch.equal(shown.masked_fill(still_hidden, CODES + 7), expected)
    assert still_hidden.flatten(1).sum(dim=1).tolist() == [8] * 4


def test_tiles_that_hide_different_numbers_are_inpainted_alike_in_any_batch(
    transformer: AmusedTransformer,
) -> None:
    tokens, hidden = example(4)
    painted = inpaint(transformer, tokens, hidden, Randomness(0, "views", 0, torch.arange(4)), Views())
    assert torch.equal(painted[~hidden], tokens[~hidden])
    assert not torch.equal(painted, tokens)
    some = torch.tensor([3, 0])
    assert torch.equal(
        inpaint(transformer, tokens[some], hidden[some], Randomness(0, "views", 0, some), Views()), painted[some]
    )


def test_tokens_and_tiles_are_those_of_diffusers(public: Path, tokenizer: AmusedTokenizer) -> None:
    assert (tokenizer.codes, tokenizer.pixels_per_token, tokenizer.bands) == (CODES, 4, 3)
    network = VQModel.from_pretrained(public, subfolder="vqvae").eval()
    tiles = torch.rand(2, 3, 16, 16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        tokens, rebuilt = tokenizer.tokenise(tiles), tokenizer.decode_tokens(some := example(2)[0])
    with torch.no_grad():
        latents = network.encode(tiles).latents
        expected = network.quantize(latents)[2][2].view(2, GRID, GRID)
        pixels = network.decode(some, force_not_quantize=True, shape=(2, GRID, GRID, 6)).sample
    assert torch.equal(tokens, expected)
    assert len(tokens.unique()) > 2
    torch.testing.assert_close(rebuilt, pixels.clip(0, 1))
    assert ((rebuilt > 0) & (rebuilt < 1)).float().mean() > 0.05
    assert tokenizer.last_layer.shape == (3, 8, 3, 3)


def test_fine_tuned_weights_are_laid_over_the_public_model(public: Path, tmp_path: Path) -> None:
    tuned, tuned_tokenizer = AmusedTransformer.from_folder(public, "here"), AmusedTokenizer.from_folder(public, "here")
    optimizer = torch.optim.SGD([*tuned.parameters(), *tuned_tokenizer.parameters()], 1.0)
    tokens, hidden = example()
    rebuilt, quantised = tuned_tokenizer(torch.rand(2, 3, 16, 16))
    (tuned.loss(tokens, hidden) + rebuilt.square().mean() + quantised.loss).backward()
    optimizer.step()
    for network, name in ((tuned, "transformer"), (tuned_tokenizer, "vqvae")):
        save_weights(tmp_path / f"{name}.safetensors", network)
        again = type(network).from_folder(public, "here")
        assert not all(torch.equal(a, b) for a, b in zip(again.parameters(), network.parameters(), strict=True))
        load_weights(tmp_path / f"{name}.safetensors", again)
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), network.parameters(), strict=True))
        inside = {key.removeprefix(f"{name}.") for key in network.state_dict()}
        assert inside == load_file(public / name / "diffusion_pytorch_model.safetensors").keys()


@pytest.mark.parametrize("model", ["nowhere/amused-256", "../nowhere", "a/b/c"])
def test_a_model_that_is_not_there_is_named(model: str) -> None:
    for kind in (AmusedTokenizer, AmusedTransformer):
        with pytest.raises(
            UserError, match=f"^generator: {model} is no folder .*and this machine has fetched no model"
        ):
            kind.from_folder(model, "generator")


def weights_of(part: str, spoil: Spoil) -> Callable[[Path], None]:
    def spoilt(folder: Path) -> None:
        path = (
            folder / part / ("model.safetensors" if part == "text_encoder" else "diffusion_pytorch_model.safetensors")
        )
        state = load_file(path)
        spoil(state)
        save_file(state, path)

    return spoilt


def in_config(part: str, **values: object) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        path = folder / part / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return changed


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "text_encoder"), r"no whole model of aMUSEd: it has no text_encoder\."),
        (
            lambda folder: (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink(),
            "part transformer has no safetensors",
        ),
        (lambda folder: (folder / "vqvae" / "config.json").unlink(), r"vqvae/config\.json cannot be read"),
        (lambda folder: (folder / "vqvae" / "config.json").write_text("{"), r"vqvae/config\.json cannot be read"),
        (in_config("transformer", _class_name="UNet2DModel"), r"configuration of a UNet2DModel; aMUSEd has a UVit2D"),
        (weights_of("transformer", without("embed.conv.weight")), r"missing embed\.conv\.weight"),
        (weights_of("transformer", with_zeros("more", 1)), r"surplus more"),
        (
            weights_of("transformer", with_zeros("embed.layer_norm.weight", 7)),
            r"embed\.layer_norm\.weight.*\[(16|7)\].*\[(16|7)\]",
        ),
        (weights_of("text_encoder", without("text_projection.weight")), r"missing text_projection\.weight"),
        (lambda folder: (folder / "tokenizer" / "merges.txt").unlink(), r"tokenizer has no merges\.txt"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named(
    public: Path, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(shutil.copytree(public, tmp_path / "copy"))
    with pytest.raises(UserError, match=f"^here: .*{message}"):
        AmusedTransformer.from_folder(tmp_path / "copy", "here")
