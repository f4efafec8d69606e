"""Which bands pictures show, and which ones the perceptual loss saw, in words for the report."""

from gcl_custom.imagery.tile_store import INDEX, TileStore
from gcl_custom.recipe.features import WithoutNetworkSettings, band_groups
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


def shown(run: Run) -> str:
    """Which bands pictures of tiles show and how; empty for 8-bit colours, and before there are tiles."""
    store = _store(run)
    if store is None:
        return ""
    look = store.quicklook(run.recipe.data.quicklook)
    if store.rgb and store.dtype == "uint8" and look.bands == [0, 1, 2]:
        return ""
    names = _listed([store.form.labels[place] for place in look.bands])
    how = "as red, green and blue" if len(look.bands) == 3 else "in grey"
    stretch = (
        "" if store.rgb and store.dtype == "uint8" else ", stretched between percentiles 2 and 98 of training tiles"
    )
    return f"Pictures show {names} {how}{stretch} (data.quicklook)."


def perceptual(run: Run) -> str:
    """Which bands the perceptual loss of the tokenizer saw; empty where these are colours, and before it is trained."""
    store, stage = _store(run), plan.tokenizer(run) if "tokenizer" in run.recipe.generator_stages else None
    if store is None or stage is None or not stage.done or store.rgb:
        return ""
    if isinstance(run.recipe.tokens.tokenizer.perceptual, WithoutNetworkSettings):
        return "The perceptual loss compares the structure of all bands, without a network."
    labels = store.form.labels
    groups = [_listed([labels[band] for band in group]) for group in band_groups(store.bands)]
    network = f"The perceptual loss sees tiles by {stage.facts['feature_network']}, which knows colour pictures only: "
    if store.bands == 1:
        return f"{network}the one band stands for red, green and blue."
    if len(groups) == 1:
        return f"{network}it takes {groups[0]} for red, green and blue."
    return (
        f"{network}in each step it takes one of these groups, at random, for red, green and blue: {'; '.join(groups)}."
    )


def _store(run: Run) -> TileStore | None:
    tiles = plan.tiles(run)
    return TileStore(tiles.path) if tiles.done and (tiles.path / INDEX).is_file() else None


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
