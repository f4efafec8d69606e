"""The results of the stage cost_benefit as a table of text: for the terminal, a file and the report."""

from typing import Any

from gcl_custom.counted import counted
from gcl_custom.measures.fid import FEATURES

COLUMNS = {
    "name": "augmentation",
    "feature_distance": "feature distance",
    "fid": "FID",
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
    """Column names and rows: the floor, then each augmentation. There is a column for FID if it was measured."""
    floor = {"name": "(floor: two halves)", "feature_distance": results["floor"], "fid": results.get("fid_floor")}
    rows = [floor, *(found | {"millions": found["parameters"] / 1e6} for found in results["augmentations"])]
    columns = {key: title for key, title in COLUMNS.items() if key != "fid" or results.get("fid_network")}
    return list(columns.values()), [[_text(row.get(key, "")) for key in columns] for row in rows]


def note(results: dict[str, Any]) -> str:
    """The note below the table."""
    split = {"valid": "validation", "test": "test"}[results["split"]]
    return (
        f"{counted(results['tiles'], f'{split} tile')} of {results['size']} px. Feature distance: the Fréchet "
        f"distance between "
        f"tiles and views on {results['feature_network']}; not FID, which is on another network, and comparable only "
        f"at the same number of tiles. {_about_fid(results)}The floor is taken between halves, so with half the tiles "
        "and more bias. SSIM and perceptual distance: means over pairs of a tile and its view. A handcrafted step "
        "alone is applied to every tile, whatever its probability, and its time holds the resize that every view goes "
        f"through. Times: medians on {results['device']}, {results['precision']}, for a tile in memory to become a "
        "view, alone and in the batch where it takes least. Weights and views: on the disk; handcrafted views are "
        "drawn anew in each training step and need no room, generative ones are made once and stored. All at the "
        "tiles' size: where pretraining crops to a smaller one, a blur, drawn in pixels, is relatively gentler here "
        "than there."
    )


def _about_fid(results: dict[str, Any]) -> str:
    """A sentence on FID that ends with a space, or why FID is missing, or nothing."""
    if results.get("fid_network"):
        few = f"; {results['tiles']:,} are fewer than its {FEATURES:,} features, which raises it much"
        return (
            f"FID: that distance on {results['fid_network']}, of tiles and views in 8 bits. It too is biased upwards "
            f"and comparable only at the same number of tiles{few if results['tiles'] < FEATURES else ''}. "
        )
    return f"{absent} " if (absent := results.get("without_fid")) else ""


def _text(value: str | int | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
