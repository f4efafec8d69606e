"""The results of the stage cost_benefit as a table of text, for the terminal, a file and the report."""

from typing import Any

COLUMNS = {
    "name": "augmentation",
    "feature_distance": "feature distance",
    "ssim": "SSIM",
    "perceptual_distance": "perceptual distance",
    "ms_alone": "ms, 1 tile",
    "ms_at_best": "ms, batch",
    "best_batch": "batch",
    "millions": "parameters, M",
    "megabytes": "weights, MB",
    "megabytes_of_1000_views": "1,000 views, MB",
}


def table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows: the floor first, then a row for each augmentation."""
    floor = {"name": "(floor: two halves)", "feature_distance": results["floor"]}
    found_rows = [found | {"millions": found["parameters"] / 1e6} for found in results["augmentations"]]
    rows = [[_text(found.get(key, "")) for key in COLUMNS] for found in (floor, *found_rows)]
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
        f"medians on {results['device']}, {results['precision']}, for a tile in memory to become a view, alone and in "
        "the batch where it takes least. Weights and views: on the disk; handcrafted views are drawn anew in each "
        "training step and need no room, generative ones are made once and stored. All at the tiles' size: where "
        "pretraining crops to a smaller one, a blur, drawn in pixels, is relatively gentler here than there."
    )


def _text(value: str | int | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
