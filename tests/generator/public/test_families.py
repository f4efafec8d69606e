"""Every family of generators from its recipe to a backbone, by the commands as a user types them, without a network.

Checkpoints are tiny and random, but in the public formats: the tests of each family write them. Commands run inside the
process of the tests, since what takes longest in a new one is to import what stands in this one already.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import biggan_file
import halton_maskgit_file
import llamagen_file
import mage_file
import mage_tokenizer_file
import pytest
import swav_file
import tiny_models
import torch
import yaml
from drawn_imagery import draw
from safetensors.torch import load_file, save_file

from gcl_custom.cli.main import main
from gcl_custom.files import read_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.views.view_store import ViewStore

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # diffusers, numpy 2
]
LEVELS = (32,) * 5
"""Of a tokenizer with tokens of 16 px."""
GRID = 2
Settings = dict[str, Any]
Command = Callable[..., str]

# ---------------------------------------------------------------- checkpoints and their recipes


def halton(folder: Path) -> Settings:
    state = llamagen_file.public_state(LEVELS, halton_maskgit_file.CODES)
    tokenizer = llamagen_file.write(folder / "vq_ds16_c2i.pt", state)
    maskgit = halton_maskgit_file.write(folder / "ImageNet_256.pth", halton_maskgit_file.public_state(GRID))
    return public("llamagen", tokenizer, "halton", maskgit, halton_maskgit_file.HEADS)


def mage(folder: Path) -> Settings:
    """One file holds both networks."""
    tokenizer = mage_tokenizer_file.tokenizer_state(LEVELS, mage_file.CODES)
    state = mage_file.public_state(GRID) | {f"vqgan.{name}": value for name, value in tokenizer.items()}
    file = mage_file.save(folder / "mage-vitb-1600.pth", state)
    return public("mage", file, "mage", file, mage_file.HEADS)


def public(tokenizer: str, tokens: Path, maskgit: str, weights: Path, heads: int | None = None) -> Settings:
    transformer = {"name": maskgit, "weights": str(weights)} | ({"heads": heads} if heads else {})
    return {
        "generator": {
            "tokenizer": {"name": tokenizer, "weights": str(tokens), "perceptual": {"name": "none"}},
            "maskgit": transformer,
        },
        "views": {"decoding_steps": 2},
    }


def icgan(folder: Path) -> Settings:
    torch.save(swav_file.swav_state(), folder / "swav_800ep_pretrain.pth.tar")
    state = {f"module.{name}": value for name, value in biggan_file.public_state(condition=2048).items()}
    torch.save(state, folder / "G_ema_best0.pth")
    weights, encoder = str(folder / "G_ema_best0.pth"), str(folder / "swav_800ep_pretrain.pth.tar")
    return {"generator": {"name": "icgan", "weights": weights, "encoder": encoder}}


def inverted(folder: Path) -> Settings:
    """IC-GAN, whose noise is found for each tile and then edited."""
    generator = icgan(folder)["generator"] | {"inversion_steps": 3}
    return {"generator": generator, "views": {"strategy": {"name": "noise"}}}


def diffusion(folder: Path) -> Settings:
    model, captions = tiny_models.save_sdxl(folder / "sdxl-turbo"), tiny_models.save_blip(folder / "blip")
    generator = {"name": "diffusion", "model": str(model), "captions": str(captions), "strength": 0.5, "steps": 4}
    return {"generator": generator}


def unclip(folder: Path) -> Settings:
    model = tiny_models.save_unclip(folder / "unclip")
    return {"generator": {"name": "unclip", "model": str(model), "steps": 2}}


def own(folder: Path) -> Settings:
    tokenizer = {"epochs": 2, "batch": 8, "codes": 16, "code_width": 8, "channels": 16, "blocks": 1}
    maskgit = {"epochs": 2, "batch": 8, "width": 32, "depth": 1, "heads": 2}
    return {
        "generator": {"tokenizer": {**tokenizer, "perceptual": {"name": "none"}}, "maskgit": maskgit},
        "views": {"decoding_steps": 2},
    }


def edited(name: str, **more: Any) -> Callable[[Path], Settings]:
    """The own VQGAN with a strategy of views; those that edit its latent need no MaskGIT."""

    def settings(folder: Path) -> Settings:
        values = own(folder)
        if name not in ("centre", "outpainting"):
            values["views"] = {}
        values["views"]["strategy"] = {"name": name, **more}
        return values

    return settings


FAMILIES: dict[str, Callable[[Path], Settings]] = {
    "halton": halton,
    "mage": mage,
    "icgan": icgan,
    "inverted": inverted,
    "diffusion": diffusion,
    "unclip": unclip,
    "centre": edited("centre"),
    "outpainting": edited("outpainting", share=0.75),
    "noise": edited("noise"),
    "interpolation": edited("interpolation"),
    "steering": edited("steering", edit="shift", steps=4),
    "navigator": edited("navigator", steps=4),
}
STAGES = {"diffusion": ["captions"], "icgan": [], "inverted": ["latents"], "unclip": []}
"""Those between tiles and views; of the others, below."""
TOKENS = ["tokenizer", "tokens", "maskgit"]
EDITS = {"noise": [], "interpolation": [], "steering": ["edit"], "navigator": ["edit"]}

REST = {
    "data": {"root": "imagery", "size": 32},
    "pretrain": {
        "backbone": "test_resnet", "epochs": 1, "batch": 7, "optimizer": {"name": "adamw", "learning_rate": 1e-3},
        "method": {"projector": [16, 16]}, "probe_every": 1,
    },
    "compare": {
        "seeds": [0], "arms": ["gcl", "handcrafted"], "fractions": [], "penalties": [1e-2], "learning_rates": [1e-3],
        "finetune_steps": 2, "supervised_epochs": 1, "batch": 8, "neighbours": 3,
    },
    "hardware": {"precision": "fp32", "accelerator": "cpu"},
}  # fmt: skip


def write_recipe(path: Path, values: Settings) -> None:
    path.write_text(yaml.safe_dump(REST | {"name": path.stem} | values), encoding="utf-8")


# ---------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def imagery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagery")
    draw(folder, bands=3, each=10, size=32)
    return folder


@pytest.fixture
def place(tmp_path: Path, imagery: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user sits: imagery, no network, an IC-GAN whose encoder looks at fewer pixels, and hasty clocks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("gcl_custom.generator.public.icgan.CONDITION_SIDE", 32)
    monkeypatch.setattr("gcl_custom.views.cost_benefit.SEARCH_ROUNDS", 1)
    monkeypatch.setattr("gcl_custom.views.cost_benefit.ROUNDS", 1)
    (tmp_path / "imagery").symlink_to(imagery)
    return tmp_path


@pytest.fixture
def gcl_custom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command and gives what it said; the exit code is as expected."""

    def command(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["gcl-custom", *arguments])
        capsys.readouterr()  # of what wrote the checkpoints
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said.out
        assert said.err == ""
        return said.out

    return command


def stages_of(name: str) -> list[str]:
    if name in STAGES:
        return ["tiles", *STAGES[name]]
    return ["tiles", *TOKENS[:2], *EDITS[name]] if name in EDITS else ["tiles", *TOKENS]


@pytest.mark.parametrize("name", FAMILIES)
def test_from_a_recipe_to_a_backbone(name: str, place: Path, gcl_custom: Command) -> None:
    write_recipe(place / "r.yaml", FAMILIES[name](place))
    said = gcl_custom("fit-generator", "r.yaml")
    run = place / "runs" / "r"
    assert [path.name for path in sorted(run.iterdir()) if path.is_dir()] == sorted(stages_of(name))
    assert re.search(r"next: +gcl-custom pretrain --run r", said)
    summaries, said = said, gcl_custom("make-views")
    store, views = TileStore(run / "tiles"), ViewStore(run / "views")
    train = store.index("train")
    made = store.unit(views.read(train, torch.zeros_like(train)))
    assert made.shape == (21, 3, store.size, store.size)
    assert made.flatten(1).std(dim=1).min() > 0.01, "no view is plain"
    assert len(made.flatten(1).unique(dim=0)) > 12, "few tokens of few codes may agree"
    differs = (made - store.unit(store.read(train))).abs().flatten(1).mean(dim=1) > 0.005
    # A view keeps the tile's own pixels, and with few tokens a random mask may hide none of them.
    assert differs.float().mean() > 0.5 if name in ("halton", "mage") else differs.all()
    assert (run / "views" / "views.png").is_file()
    assert "views: 21 views at" in said
    if name == "icgan":
        costs(gcl_custom, run, "icgan")
    elif name == "inverted":
        costs(gcl_custom, run, "reconstruction", "icgan, noise")
    elif name == "diffusion":
        costs(gcl_custom, run, "reconstruction", "diffusion")
    elif name == "halton":
        costs(gcl_custom, run, "reconstruction, p = 0", "in-painting, p = 0.25", "in-painting, p = 0.75")
    summaries += said
    said = gcl_custom("pretrain")
    summaries += said
    backbone = load_file(run / "pretrain" / "gcl-0" / "backbone.safetensors")
    assert all(value.isfinite().all() for value in backbone.values())
    for stage in (*stages_of(name), "views", "pretrain/gcl-0"):
        assert re.search(rf"^ *{stage} +\S+", summaries, re.MULTILINE), f"{stage} is missing in the summaries"
    assert "views: done before" in said


def costs(gcl_custom: Command, run: Path, *names: str) -> None:
    """The table of costs, and the report that shows it."""
    said = gcl_custom("cost-benefit", "--tiles", "8")
    gcl_custom("report")
    page = (run / "report.html").read_text(encoding="utf-8")
    for name in (*names, "crop", "suite, first view"):
        assert name in said
        assert f'<th scope="row">{name}</th>' in page
    assert "FID was not measured" in said
    results = json.loads((run / "cost_benefit" / "results.json").read_text(encoding="utf-8"))
    first = results["augmentations"][len(names) - 1]
    assert first["parameters"] > 0
    assert first["feature_distance"] > 0


# ---------------------------------------------------------------- weights from elsewhere, own and public


@pytest.fixture
def elsewhere(place: Path) -> Path:
    draw(place / "others", bands=3, each=6, size=32)
    return place


def test_own_weights_go_on_with_other_tiles_or_stay(elsewhere: Path, gcl_custom: Command) -> None:
    place, first = elsewhere, own(elsewhere)
    write_recipe(place / "first.yaml", first)
    gcl_custom("fit-generator", "first.yaml")
    files = {"tokenizer": "vqgan.safetensors", "maskgit": "maskgit.safetensors"}
    before = {stage: load_file(place / "runs" / "first" / stage / name) for stage, name in files.items()}
    for epochs in (0, 1):
        values = own(place) | {"data": {"root": "others", "size": 32}}
        for stage, name in files.items():
            values["generator"][stage] |= {"weights": f"runs/first/{stage}/{name}", "epochs": epochs}
        write_recipe(place / "second.yaml", values)
        gcl_custom("fit-generator", "second.yaml", "--redo")
        for stage, name in files.items():
            after = load_file(place / "runs" / "second" / stage / name)
            same = [torch.equal(value, after[key]) for key, value in before[stage].items()]
            assert after.keys() == before[stage].keys()
            if epochs == 0:
                assert all(same), stage
            elif stage == "tokenizer":  # of maskgit those may be kept that it started from
                assert not all(same)
    gcl_custom("make-views", "--run", "second")
    assert (place / "runs" / "second" / "views" / "views.npy").is_file()


def test_public_weights_stay_or_are_trained_further(place: Path, gcl_custom: Command) -> None:
    public_tokenizer = llamagen_file.public_state(LEVELS, halton_maskgit_file.CODES)
    for epochs in (0, 1):
        values = halton(place)
        values["generator"]["tokenizer"] |= {"epochs": epochs, "batch": 7}
        values["generator"]["maskgit"] |= {"epochs": epochs, "batch": 7}
        write_recipe(place / "r.yaml", values)
        gcl_custom("fit-generator", "r.yaml", "--redo")
        run = place / "runs" / "r"
        tokenizer = load_file(run / "tokenizer" / "vqgan.safetensors")
        same = {name: torch.equal(value, public_tokenizer[name]) for name, value in tokenizer.items()}
        assert set(public_tokenizer) - set(tokenizer) == {"quantize.codebook_used"}
        assert all(same.values()) if epochs == 0 else not any(v for n, v in same.items() if n.endswith("weight"))
        kept = read_json(run / "maskgit" / "stage.json")["facts"]
        assert kept["masked_token_loss"] > 0
        maskgit = load_file(run / "maskgit" / "maskgit.safetensors")
        start = halton_maskgit_file.public_state(GRID)
        assert maskgit.keys() == start.keys()
        stayed = all(torch.equal(maskgit[name], value) for name, value in start.items())
        assert stayed == (kept["kept_epoch"] == 0)
        assert torch.equal(maskgit["head.weight"], maskgit["tok_emb.weight"])
    assert "views: 21 views" in gcl_custom("make-views")


# ---------------------------------------------------------------- weights that change under the same name


def test_other_weights_under_the_same_name_are_refused(place: Path, gcl_custom: Command) -> None:
    values = inverted(place)
    write_recipe(place / "r.yaml", values)
    gcl_custom("fit-generator", "r.yaml")
    gcl_custom("make-views")
    state = torch.load(place / "G_ema_best0.pth", weights_only=True)
    (place / "elsewhere").mkdir()
    (place / "G_ema_best0.pth").rename(place / "elsewhere" / "G_ema_best0.pth")
    values["generator"]["weights"] = "elsewhere/G_ema_best0.pth"
    write_recipe(place / "r.yaml", values)
    assert "views: done before" in gcl_custom("make-views", "r.yaml"), "the same file at another place"
    (place / "elsewhere" / "G_ema_best0.pth").unlink()
    assert "views: done before" in gcl_custom("make-views"), "what was made stays where its weights are gone"
    assert "1 of 2 weights is missing" in gcl_custom("check")
    state["module.linear.bias"] *= 2
    torch.save(state, place / "elsewhere" / "G_ema_best0.pth")
    said = gcl_custom("fit-generator", "r.yaml", code=1)
    assert re.search(
        r"latents was made from something else \(generator\.weights: G_ema_best0\.pth, SHA-256 \w+ -> G", said
    )


# ---------------------------------------------------------------- checkpoints that lack a tensor


def without(path: Path, name: str, *keys: str) -> None:
    """A file as before, but for one tensor."""
    if path.suffix == ".safetensors":
        state = load_file(path)
        del state[name]
        save_file(state, path, metadata={"format": "pt"})
        return
    whole = torch.load(path, weights_only=True)
    state = whole
    for key in keys:
        state = state[key]
    del state[name]
    torch.save(whole, path)


FAULTS: dict[str, tuple[Callable[[Path], Settings], tuple[str, ...], str]] = {
    "llamagen": (halton, ("vq_ds16_c2i.pt", "decoder.conv_out.bias", "model"), "generator.tokenizer.weights"),
    "halton": (
        halton,
        ("ImageNet_256.pth", "module._orig_mod.transformer.layers.1.ff.w3.weight", "model_state_dict"),
        "generator.maskgit.weights",
    ),
    "mage tokenizer": (
        mage,
        ("mage-vitb-1600.pth", "vqgan.decoder.conv_in.bias", "model"),
        "generator.tokenizer.weights",
    ),
    "mage": (mage, ("mage-vitb-1600.pth", "mlm_layer.ln.bias", "model"), "generator.maskgit.weights"),
    "icgan": (icgan, ("G_ema_best0.pth", "module.linear.bias"), "generator.weights"),
    "swav": (icgan, ("swav_800ep_pretrain.pth.tar", "module.layer4.0.conv1.weight"), "generator.encoder"),
    "diffusion": (
        diffusion,
        ("sdxl-turbo/unet/diffusion_pytorch_model.safetensors", "conv_in.bias"),
        "generator.model",
    ),
    "blip": (
        diffusion,
        ("blip/model.safetensors", "vision_model.encoder.layers.0.mlp.fc1.bias"),
        "generator.captions",
    ),
    "unclip": (unclip, ("unclip/image_encoder/model.safetensors", "visual_projection.weight"), "generator.model"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_checkpoint_that_lacks_a_tensor_ends_in_one_message(name: str, place: Path, gcl_custom: Command) -> None:
    """By the first command, before anything that would be in vain without it."""
    family, (file, tensor, *keys), key = FAULTS[name]
    write_recipe(place / "r.yaml", family(place))
    without(place / file, tensor, *keys)
    said = gcl_custom("fit-generator", "r.yaml", code=1)
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {key}: ")
    assert said.splitlines()[-1] == errors[0]
    public_name = re.sub(r"^(module\.|_orig_mod\.|vqgan\.)+", "", tensor)
    assert public_name in errors[0]
    assert str(place / file).split("/")[-2] in errors[0]


# ---------------------------------------------------------------- the verdict


@pytest.mark.parametrize("name", ["inverted", "diffusion"])
def test_the_verdict_has_the_generator_s_own_arms(name: str, place: Path, gcl_custom: Command) -> None:
    values = FAMILIES[name](place)
    arms = ["gcl", "handcrafted", "reconstructed", "supervised"]
    write_recipe(place / "r.yaml", values | {"compare": REST["compare"] | {"arms": arms, "fractions": [0.5]}})
    gcl_custom("fit-generator", "r.yaml")
    said = gcl_custom("compare-supervised")
    run = place / "runs" / "r"
    for arm in arms[:-1]:
        assert (run / "pretrain" / f"{arm}-0" / "backbone.safetensors").is_file()
    again = ViewStore(run / "reconstructions")
    store = TileStore(run / "tiles")
    train = store.index("train")
    pixels = again.read(train, torch.zeros_like(train))
    assert not torch.equal(pixels, store.read(train))
    assert not torch.equal(pixels, ViewStore(run / "views").read(train, torch.zeros_like(train)))
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "This run is not finished" not in page
    assert re.search(r"report: .*report\.html", said)
    assert (run / "compare" / "scores.json").is_file()
