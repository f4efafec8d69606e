"""The weights that a recipe names, and published times."""

from typing import Any

import pytest

from gcl_custom.recipe.file import check_values, load_recipe, shipped
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.weights.catalogue import PUBLISHED
from gcl_custom.weights.needed import licences, needed, published_speed


def of(generator: dict[str, Any], **sections: Any) -> Recipe:
    values = {"name": "r", "data": {"root": "x", "size": 256}, "compare": {"arms": ["gcl"]}, "generator": generator}
    return check_values(Recipe, values | sections, "test")


PAIR = {
    "tokenizer": {"name": "llamagen", "weights": "w/vq_ds16_c2i.pt"},
    "maskgit": {"name": "halton", "weights": "w/ImageNet_256_small.pth"},
}


def test_own_networks_need_nothing_and_public_ones_are_recognised() -> None:
    assert needed(load_recipe("quickstart")) == []
    tokenizer, maskgit = needed(of(PAIR))
    assert (tokenizer.keys, tokenizer.given, tokenizer.folder) == (
        ("generator.tokenizer.weights",), "w/vq_ds16_c2i.pt", False,
    )  # fmt: skip
    assert tokenizer.exact
    assert maskgit.public
    assert (maskgit.public.file, maskgit.public.size) == ("ImageNet_256_small.pth", 832_000_000)
    assert maskgit.fetchable


def test_another_file_of_a_family_keeps_the_licence_and_promises_nothing_else() -> None:
    other = of({"name": "icgan", "weights": "mine.pth", "encoder": "swav.pth"})
    generator, encoder = needed(other)
    assert generator.public
    assert not generator.exact
    assert not generator.fetchable
    assert encoder.public
    assert [line.split(":")[0] for line in licences(other)] == ["generator.weights", "generator.encoder"]


def test_of_another_model_of_diffusion_nothing_is_claimed() -> None:
    (model, captions) = needed(of({"name": "diffusion", "model": "models/own"}))
    assert (model.public, model.exact) == (None, False)
    assert captions.on_hub
    copied = needed(of({"name": "diffusion", "model": "models/sdxl-turbo", "captions": None}))[0]
    assert copied.public
    assert not copied.exact
    assert not copied.on_hub


def test_own_weights_of_another_run_are_needed_and_unknown() -> None:
    (own,) = needed(of({"tokenizer": {"weights": "runs/a/vqgan.safetensors"}}))
    assert (own.keys, own.public) == (("generator.tokenizer.weights",), None)


@pytest.mark.parametrize(
    ("generator", "key"),
    [
        (
            {"tokenizer": {"perceptual": {"name": "vgg16", "weights": "v.pth"}}},
            "generator.tokenizer.perceptual.weights",
        ),
        (
            {"name": "unclip", "features": {"name": "vgg16", "weights": "v.pth"}},
            "generator.features.weights",
        ),
    ],
)
def test_weights_of_the_feature_network_are_needed_too(generator: dict[str, Any], key: str) -> None:
    found = needed(of(generator))[-1]
    assert found.keys == (key,)
    assert found.public
    assert found.public.title == "VGG16 of torchvision"


def test_the_network_of_fid_is_needed_where_the_recipe_names_it() -> None:
    named = "weights/weights-inception-2015-12-05-6726825d.pth"
    (fid,) = needed(load_recipe("quickstart", [f"cost_benefit.fid_weights={named}"]))
    assert (fid.keys, fid.given, fid.exact, fid.fetchable) == (("cost_benefit.fid_weights",), named, True, True)
    assert fid.public
    assert fid.public.sha256 == "6726825d"  # as the file's name has it, in the manner of torch.hub
    assert needed(of(PAIR, cost_benefit={"fid_weights": named}))[-1] == fid


def test_what_two_keys_name_is_needed_once_and_an_edit_of_latents_needs_no_transformer() -> None:
    part = {"name": "mage", "weights": "w/mage-vitb-1600.pth"}
    (both,) = needed(of({"tokenizer": part, "maskgit": part}))
    assert both.keys == ("generator.tokenizer.weights", "generator.maskgit.weights")
    assert both.where == "generator.tokenizer.weights, generator.maskgit.weights"
    (tokenizer,) = needed(of(PAIR, views={"strategy": {"name": "noise"}}))
    assert tokenizer.keys == ("generator.tokenizer.weights",)


def test_every_shipped_recipe_names_weights_that_are_known() -> None:
    for name, path in shipped("recipes").items():
        for need in needed(load_recipe(path)):
            assert need.exact, name
            assert need.fetchable, name
    lines = {name: len(licences(load_recipe(path))) for name, path in shipped("recipes").items()}
    forbidding = {"imagenet-noise": 2, "imagenet-diffusion": 1}
    assert {name: count for name, count in lines.items() if count} == forbidding


def test_published_times_stand_for_what_they_were_measured_with_alone() -> None:
    assert published_speed(load_recipe("imagenet-inpainting")) == PUBLISHED["centre"]
    assert published_speed(load_recipe("imagenet-outpainting")) == PUBLISHED["outpainting"]
    assert published_speed(load_recipe("imagenet-noise")) == PUBLISHED["icgan"]
    assert published_speed(load_recipe("imagenet-inpainting", ["views.decoding_steps=8"])) is None
    assert published_speed(load_recipe("imagenet-inpainting", ["data.size=384"])) is None
    assert published_speed(load_recipe("imagenet-noise", ["generator.inversion_steps=9"])) is None
    assert published_speed(load_recipe("imagenet-diffusion")) is None
    assert published_speed(of(PAIR)) is None
    own = of({"tokenizer": {"pixels_per_token": 16}}, views={"strategy": {"name": "centre"}})
    assert published_speed(own) is None
