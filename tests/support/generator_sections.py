"""Sections of a generator, as a recipe has them, and recipes made of sections."""

from typing import Any

from gcl_custom.recipe.recipe import Recipe

ICGAN = {"name": "icgan", "weights": "g.pth", "encoder": "swav.pth"}
HALTON = {
    "tokenizer": {"name": "llamagen", "weights": "vq.pt"},
    "maskgit": {"name": "halton", "weights": "halton.pth"},
}
ARMS = {"arms": ["gcl", "handcrafted"]}


def recipe(**sections: Any) -> Recipe:
    return Recipe.model_validate({"name": "r", "data": {"root": "tiles", "size": 256}, **sections})
