"""The results of the stage cost_benefit as a table of text, for the terminal, a file and the report."""

from typing import Any

COLUMNS = {
    "name": "augmentation",
    "feature_distance": "feature distance",
    "ssim": "SSIM",
    "perceptual_distance": "perceptual distance",
    "ms_alone": "ms, one tile",
    "ms_at_best": "ms a tile at best batch",
    "best_batch": "best batch",
    "parameters": "parameters",
    "megabytes": "MB of weights",
    "megabytes_of_1000_views": "MB of 1,000 stored views",
}


def table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows: the floor first, then a row for each augmentation."""
    floor = {"name": "(other tiles: two random halves)", "feature_distance": results["floor"]}
    rows = [[_text(found.get(key, "")) for key in COLUMNS] for found in (floor, *results["augmentations"])]
    return list(COLUMNS.values()), rows


def note(results: dict[str, Any]) -> str:
    """What a reader should know beside the table."""
    split = {"valid": "validation", "test": "test"}[results["split"]]
    return (
        f"{results['tiles']} {split} tiles of {results['size']} px. Feature distance: the Fréchet distance between "
        f"tiles and views on {results['feature_network']}; not FID, which is on another network, and comparable only "
        "at the same number of tiles. Its floor is taken between halves, so with half the tiles and more bias. SSIM "
        "and perceptual distance: means over pairs of a tile and its view. A handcrafted step alone is applied to "
        "every tile, whatever its probability, and its time holds the resize that every view goes through. Times: "
        f"medians on {results['device']}, {results['precision']}, from tiles in memory to views. Handcrafted views are "
        "drawn anew in each training step and need no room; generative ones are made once and stored."
    )


def _text(value: str | int | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
