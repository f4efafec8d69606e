"""A recipe of the smallest networks."""

from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.recipe import Recipe

TINY = check_values(
    Recipe,
    {
        "name": "tiny",
        "data": {"root": "none", "size": 16},
        "generator": {
            "tokenizer": {"batch": 4, "codes": 16, "channels": 16, "blocks": 1, "code_width": 8, "pixels_per_token": 4,
                          "perceptual": {"name": "none"}},
            "maskgit": {"batch": 4, "width": 32, "depth": 1, "heads": 2},
        },
        "views": {"batch": 4},
        "pretrain": {"backbone": "resnet10t", "stem": "small", "batch": 4, "method": {"projector": [16, 16]}},
        "compare": {"batch": 4},
        "hardware": {"accelerator": "cpu", "precision": "fp32"},
    },
    "test",
)  # fmt: skip
