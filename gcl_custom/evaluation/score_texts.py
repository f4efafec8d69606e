"""The scores of a scores.json as texts for a reader, the same on the console, in the report and on a model card."""

from collections.abc import Mapping
from typing import Any

from gcl_custom.counted import counted, score_text
from gcl_custom.evaluation.figures import OF_DRAWS
from gcl_custom.measures.label_kinds import kind_scored_by


def above(scores: Mapping[str, Any]) -> list[str]:
    """What stands above the verdict of a scores.json: warnings, then grounds. Old kept results have none."""
    return [*scores.get("warnings", []), *scores.get("grounds", [])]


def mean_text(score: Mapping[str, Any], tiles: int) -> str:
    """A mean score in percent, with as many decimals as so many test tiles carry."""
    return score_text(score["mean"], tiles)


def interval_text(score: Mapping[str, Any], tiles: int) -> str:
    """The interval of a score in percent, likewise."""
    return f"{score_text(score['low'], tiles)}–{score_text(score['high'], tiles)}"


def seeds_text(score: Mapping[str, Any], tiles: int) -> str:
    """The scores of few seeds, one by one; empty where one seed is the mean or an interval is over them."""
    few = score["interval"] != "seeds" and len(score["seeds"]) > 1
    return ", ".join(score_text(value, tiles) for value in score["seeds"].values()) if few else ""


def over(scores: Mapping[str, Any]) -> str:
    """What the intervals of a scores.json are over, in words."""
    count = len(scores["seeds"])
    found = [score for metrics in scores["scores"].values() for score in metrics.values()]
    if any(score["interval"] == "seeds" for score in found):
        return f"over {count} seeds"
    each = "" if count == 1 else f", and the scores of the {count} seeds one by one"
    return f"over {tiles_or_blocks(scores)}{each}"


def tiles_or_blocks(scores: Mapping[str, Any]) -> str:
    """What was resampled for intervals that are not over seeds: test tiles, or whole blocks of them."""
    blocks = scores.get("test_blocks")
    return "test tiles" if blocks is None else f"{counted(blocks, 'block')} of test tiles"


def of_probes(scores: Mapping[str, Any]) -> str:
    """What the probes of a scores.json are, as the beginning of a sentence."""
    return kind_scored_by(scores["measure"]).probes_caption


def of_floors(scores: Mapping[str, Any]) -> str:
    """What the floors of a scores.json are."""
    return kind_scored_by(scores["measure"]).floors_caption.replace("test tiles", tiles_or_blocks(scores))


def of_draws(scores: Mapping[str, Any]) -> str:
    """What the figures with few labels are, below a table."""
    return OF_DRAWS.replace("test tiles", tiles_or_blocks(scores))


def how_over_tiles(scores: Mapping[str, Any]) -> str:
    """The kind of the intervals over test tiles or their blocks."""
    if "test_blocks" in scores:
        return "bootstrap, the tiles of a block together"
    return kind_scored_by(scores["measure"]).tile_interval
