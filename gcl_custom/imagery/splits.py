"""The split into training, validation and test tiles: a function of sources, labels, places and a seed. No pixels."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from gcl_custom.console import plain
from gcl_custom.counted import counted
from gcl_custom.errors import UserError
from gcl_custom.imagery.folders import FoundTile
from gcl_custom.imagery.places.blocks import Blocks, by_name, in_scenes, length, on_ground
from gcl_custom.imagery.places.coordinates import Places, known, places_in_names
from gcl_custom.imagery.places.groups import divide_groups
from gcl_custom.imagery.places.nearness import Nearness, nearness
from gcl_custom.imagery.places.on_ground import nearest_km
from gcl_custom.imagery.places.shared_ground import Footprints
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.tile_store import INDEX, SPLITS, SplitName, TileStore
from gcl_custom.measures.label_kind import LabelKind
from gcl_custom.recipe.imagery import DataSettings, SplitSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

FAR_BELOW = 2 / 3
"""Of the share that the recipe asks for: a split with less is told."""
MOST_STACKED = 0.5
"""Largest share of the windows that may share ground with other scenes for these to be divided whole."""
MOST_IN_ONE = 0.85
"""Largest share of the tiles that one group may hold. With more, the other splits have next to nothing."""


def missing_splits(tiles: Sequence[FoundTile]) -> list[SplitName]:
    """The splits that neither a folder nor a table gives."""
    given = {tile.split for tile in tiles}
    return [name for name in SPLITS if name not in given]


class Division(NamedTuple):
    """The split of each tile, and how it came about."""

    split: Int[Tensor, " n"]
    """0 train, 1 valid, 2 test."""
    how: str
    """The fact ``split`` of the packed tiles."""
    blocks: Int[Tensor, " n"] | None = None
    """The number of the block or scene that each tile went with, -1 for none; None where tiles went one by one."""
    notes: Sequence[str] = ()
    """For the user."""

    @property
    def groups(self) -> dict[str, int]:
        """The number of blocks or scenes in each split; none where tiles went one by one."""
        if self.blocks is None:
            return {}
        inside = self.blocks >= 0
        return {name: len(self.blocks[inside & (self.split == code)].unique()) for code, name in enumerate(SPLITS)}

    def only(self, kept: Bool[Tensor, " n"], note: str) -> "Division":
        """The division of some of the tiles, with one more thing to tell."""
        blocks = None if self.blocks is None else self.blocks[kept]
        return Division(self.split[kept], self.how, blocks, [*self.notes, note])


def divide(
    tiles: Sequence[FoundTile], labels: Shaped[Tensor, "n *_"], kind: LabelKind, data: DataSettings, places: Places,
    ground: Footprints | None = None,
) -> Division:  # fmt: skip
    """The split of each tile. Splits that nothing gives are drawn from the training tiles, alone or in groups.

    Args:
        ground: where windows of scenes lie; None where it does not matter which share ground.

    Raises:
        UserError: a split has no tile, or cannot have one.
    """
    split = torch.tensor([SPLITS.index(tile.split or "train") for tile in tiles])
    found = Division(split, _given_by(data))
    if missing := missing_splits(tiles):
        if data.split.by == "folders" and len(missing) == len(SPLITS):
            raise UserError(
                f"data.split.by is folders, but neither folders, a card nor a table of labels gives a split of "
                f"{data.root}. Give them, or take random, blocks, scene or lists"
            )
        rest = torch.nonzero(split == 0).flatten()
        sources = [tiles[number].source for number in rest.tolist()]
        among = [name for name in SPLITS if name == "train" or name in missing]
        strata = kind.strata(labels[rest])
        way = data.split.chance or _careful(sources, ground)
        if way == "random":
            split[rest] = random_split(sources, strata, data.split, among)
            found = Division(split, "random")
        else:
            groups = _groups(way, sources, places[rest.numpy()], data)
            split[rest], notes = _by_groups(groups, strata, data, among)
            blocks = torch.full_like(split, -1)
            blocks[rest] = torch.from_numpy(groups.of)
            found = Division(split, f"by {groups.what}", blocks, notes)
    empty = [name for code, name in enumerate(SPLITS) if not (split == code).any()]
    if empty:
        raise UserError(
            f"{data.root} has {counted(len(tiles), 'usable tile')}, and none for the "
            f"{' and the '.join(empty)} split. Training, validation and test need one tile each at the very least, "
            f"and hundreds to learn anything: add tiles or change data.split"
        )
    return found


def needs_places(data: DataSettings, tiles: Sequence[FoundTile]) -> bool:
    """Whether the division of these tiles, or which of them stay, depends on their places."""
    by_blocks = data.split.by == "blocks" or (data.split.chance is None and any(tile.source.window for tile in tiles))
    return bool(data.split.buffer_km) or (bool(missing_splits(tiles)) and by_blocks)


def _given_by(data: DataSettings) -> str:
    table = data.labels and not data.labels_on_ground
    return "given by lists" if data.split.lists else "given by the table" if table else "given by folders"


def _careful(sources: Sequence[Source], ground: Footprints | None) -> str:
    """How to divide where the recipe does not say: windows of a scene, which are neighbours, never one by one.

    Scenes of the same ground, such as those of several days, are not divided whole either.
    """
    windows = Counter(source.path for source in sources if source.window)
    if not windows:
        return "random"
    enough = len(windows) >= len(SPLITS) and max(windows.values()) <= MOST_IN_ONE * len(sources)
    return "scene" if enough and (ground is None or ground.stacked <= MOST_STACKED) else "blocks"


def _groups(way: str, sources: Sequence[Source], places: Places, data: DataSettings) -> Blocks:
    """The groups of tiles that stay together.

    Raises:
        UserError: nothing says which they are.
    """
    cut = [source.window for source in sources if source.window]
    if way == "scene":
        if not cut:
            raise UserError(
                f"data.split.by is scene, but no file of {data.root} is cut into windows, so each file would be a "
                f"scene of one tile. Take blocks where files or their names hold coordinates, or random"
            )
        return by_name([source.path for source in sources], "scene")
    if known(places).any():
        return on_ground(places, data.split.block_km, data.split.block_degrees)
    if len(cut) < len(sources):
        raise UserError(
            f"data.split.by is blocks, but no file of {data.root} has coordinates, and no name holds a longitude and a "
            f"latitude, as -73.12,45.40.jpg does. Take folders, lists or random"
        )
    if data.split.block_km or data.split.block_degrees:
        raise UserError(
            f"data.split gives the side of blocks on the ground, but no scene of {data.root} has coordinates. Leave "
            f"the side out: the scenes are then cut into squares of their own pixels"
        )
    scenes = by_name([source.path for source in sources], "scene").of
    centres = np.array([(w.row + w.height / 2, w.column + w.width / 2) for w in cut])
    return in_scenes(scenes, centres, float(max(max(w.width, w.height) for w in cut)))


def _by_groups(
    groups: Blocks, strata: Int[Tensor, " n"], data: DataSettings, among: Sequence[SplitName]
) -> tuple[Int[Tensor, " n"], list[str]]:
    """Divide whole groups by the shares of the recipe. Tiles that are in no group are for training.

    Raises:
        UserError: there are too few groups, or one holds nearly all tiles.
    """
    inside, total = groups.of >= 0, len(groups.of)
    if len(groups.names) < len(among) or groups.largest > MOST_IN_ONE:
        raise UserError(
            f"{data.root}: divided by {groups.what}, {counted(total, 'tile is', 'tiles are')} in "
            f"{len(groups.names)} of them, and the "
            f"largest holds {groups.largest:.0%}, so the {', '.join(among)} splits cannot all have their share. Take "
            f"smaller blocks (data.split.by: blocks, data.split.block_km), or data.split.by: random, whose scores say "
            f"too much"
        )
    given = [getattr(data.split, name) for name in among]
    shares = [share / sum(given) for share in given]
    codes = divide_groups(groups.names, groups.of[inside], strata.numpy()[inside], shares, data.split.seed)
    split = torch.zeros(total, dtype=torch.int64)
    split[torch.from_numpy(inside)] = torch.tensor([SPLITS.index(name) for name in among])[codes[groups.of[inside]]]
    notes = []
    if lost := int(total - inside.sum()):
        notes.append(f"tiles without a known place, so in no block, and used for training: {lost:,} of {total:,}")
    for name, share in zip(among, shares, strict=True):
        got = float((split == SPLITS.index(name)).float().mean())
        if got < FAR_BELOW * share:
            notes.append(
                f"the {name} split has {got:.1%} of the tiles in place of {share:.0%}: groups are divided whole, and "
                f"the largest of {len(groups.names)} holds {groups.largest:.0%}. Smaller blocks come nearer "
                f"(data.split.block_km)"
            )
    return split, notes


def apart(
    division: Division, places: Places, ground: Footprints | None, data: DataSettings
) -> tuple[Division, Bool[Tensor, " n"]]:
    """Leave out tiles that lie too near those of another split: of validation beside test, of training beside both.

    Args:
        ground: as for ``divide``.

    Returns:
        The division of the tiles that stay, and which these are.

    Raises:
        UserError: a split has no tile left, or no place is known from which a distance could be measured.
    """
    buffer, codes = data.split.buffer_km, division.split.numpy()
    there = known(places)
    if buffer is None or not (buffer or ground):
        return division, torch.ones(len(codes), dtype=torch.bool)
    if buffer and not there.any():
        raise UserError(
            f"data.split.buffer_km is {buffer:g}, but no file of {data.root} has coordinates, and no name holds a "
            f"longitude and a latitude: leave the key out"
        )
    kept = codes == SPLITS.index("test")
    for name in ("valid", "train"):
        mine, others = codes == SPLITS.index(name), kept.copy()
        near = ground.shared(mine, others) if ground else np.zeros(len(codes), dtype=bool)
        if buffer and (mine & there).any() and (others & there).any():
            near[mine & there] |= nearest_km(places[mine & there], places[others & there]) <= buffer
        kept |= mine & ~near
    left = {name: int((~kept & (codes == code)).sum()) for code, name in enumerate(SPLITS)}
    counts = [f"{left[name]:,} of {int((codes == SPLITS.index(name)).sum()):,} {name}" for name in left if left[name]]
    if not counts:
        return division, torch.from_numpy(kept)
    reason = "they share ground with tiles of another split" if ground else ""
    reason += " or " if ground and buffer else ""
    reason += f"their centres lie within {length(buffer)} of those of another split" if buffer else ""
    note = f"tiles left out, as {reason} (data.split.buffer_km): {' and '.join(counts)}"
    found = division.only(torch.from_numpy(kept), note)
    if empty := [name for code, name in enumerate(SPLITS) if not (found.split == code).any()]:
        raise UserError(
            f"{data.root}: {note}. None is left for the {' and the '.join(empty)} split. Divide by scenes or larger "
            f"blocks (data.split.by), let windows overlap less (data.scenes.overlap), or, if splits are to share "
            f"ground, as where they are of different years, set data.split.buffer_km: null"
        )
    return found, torch.from_numpy(kept)


def places_of(tiles: Sequence[FoundTile], stated: Mapping[Source, tuple[float, float] | None]) -> Places:
    """Longitude and latitude of each tile: what its file states, or what the names of nearly all files hold."""
    places = places_in_names([tile.source.path for tile in tiles])
    for number, tile in enumerate(tiles):
        if (place := stated.get(tile.source)) is not None:
            places[number] = place
    return places


def twins(sources: Sequence[Source], digests: Sequence[str], split: Sequence[int]) -> list[list[Source]]:
    """Sources with the same content that are in different splits, by split. Such copies inflate test scores."""
    alike: dict[str, list[int]] = defaultdict(list)
    for number, digest in enumerate(digests):
        alike[digest].append(number)
    return [
        [sources[number] for number in sorted(numbers, key=lambda number: split[number])]
        for numbers in alike.values()
        if len({split[number] for number in numbers}) > 1
    ]


def of_twins(found: Sequence[Sequence[Source]]) -> str:
    """Say how many copies there are, and name two."""
    count, pair = sum(map(len, found)), f"{found[0][0]} and {found[0][-1]}"
    return f"{count:,} tiles are copies of one another in different splits, such as {pair}: scores on them say too much"


def of_alike(pairs: Sequence[tuple[Source, Source]]) -> str:
    """Say how many near duplicates there are, and name two."""
    count, pair = len({source for pair in pairs for source in pair}), " and ".join(map(str, pairs[0]))
    return (
        f"{count:,} tiles show nearly the same picture as one in another split, such as {pair}: scores on them say too "
        f"much"
    )


def listed(copies: Sequence[Sequence[Source]], alike: Sequence[tuple[Source, Source]]) -> str:
    """The text of the file that lists copies and near duplicates across splits, one group of sources a line."""
    found = [("same content", group) for group in copies] + [("nearly the same picture", pair) for pair in alike]
    return "".join("\t".join([what, *(plain(str(source)) for source in group)]) + "\n" for what, group in found)


def told(run: Run) -> str:
    """Say which kind of split the scores of a run rest on, and how near its test tiles lie to its training tiles."""
    stage = plan.tiles(run)
    if not (stage.path / INDEX).is_file():
        return in_words(stage.facts)
    store = TileStore(stage.path)
    return in_words(stage.facts, nearness(store.places, store.split.numpy(), run.recipe.data.split.near_km))


def in_words(facts: Mapping[str, Any], near: Nearness | None = None) -> str:
    """Say which kind of split the scores rest on, and what it cannot rule out.

    Args:
        facts: those of the packed tiles.
        near: how near test tiles lie to training tiles, where places are known.
    """
    how = facts["split"]
    if how == "random":
        within = " within each class" if facts.get("classes", True) else ""
        sentence = (
            f"The tiles were divided at random{within}: neighbouring tiles may lie on both sides, which flatters all "
            f"scores."
        )
    elif how.startswith("by "):
        counts = ", ".join(f"{count:,} {name}" for name, count in facts["groups"].items())
        border = "" if how == "by scene" else "; tiles on both sides of a border may still be neighbours"
        what = "scenes" if how == "by scene" else "blocks"
        sentence = f"The tiles were divided {how}, whole {what} at a time ({counts}){border}."
    else:
        giver = how.removeprefix("given by ").replace("the table", "the table of labels or the folders")
        giver = giver if giver.startswith("the ") else f"the {giver}"
        sentence = f"The split is the one that {giver} give"
        sentence += "." if near else "; how far apart its places lie is not known here."
    if count := facts.get("near_another_split"):
        sentence += f" Tiles left out, as they lay too near those of another split: {count:,}."
    if near:
        sentence += f" {near.sentence()}"
    for key, what in (
        ("duplicates_across_splits", "the same content"),
        ("near_duplicates_across_splits", "nearly the same picture"),
    ):
        if count := facts.get(key):
            sentence += f" Files with {what} in more than one split: {count}."
    return sentence


def random_split(
    sources: Sequence[Source], labels: Int[Tensor, " n"], split: SplitSettings, among: Sequence[SplitName] = SPLITS
) -> Int[Tensor, " n"]:
    """Split each class at random by the shares of the recipe: 0 train, 1 valid, 2 test.

    Args:
        labels: -1 for a tile without one; these tiles are divided like a class.
        among: the splits to divide between, train first; fewer than three if folders give the others.

    The split of a tile depends on the seed, its source and its rank in its class, not on the order of the tiles. One
    tile more or less moves at most the tiles at the borders. A class of as many tiles as there are splits in ``among``
    or more is in each of them, a smaller one in train only.
    """
    result = torch.zeros(len(sources), dtype=torch.int64)
    given = [getattr(split, name) for name in among]
    shares = [share / sum(given) for share in given]
    codes = torch.tensor([SPLITS.index(name) for name in among])
    for label in sorted(set(labels.tolist())):
        members = torch.nonzero(labels == label).flatten().tolist()
        members.sort(
            key=lambda tile: hashlib.blake2b(f"{split.seed}/{sources[tile]}".encode(errors="surrogateescape")).digest()
        )
        result[members] = codes.repeat_interleave(torch.tensor(_counts(len(members), shares)))
    return result


def _counts(total: int, shares: Sequence[float]) -> list[int]:
    """Round total * shares to whole numbers that sum to total; none is 0 if total allows it."""
    if total < len(shares):
        return [total] + [0] * (len(shares) - 1)
    counts = [max(1, int(total * share)) for share in shares]
    while sum(counts) != total:
        step = 1 if sum(counts) < total else -1
        missing = [step * (total * share - count) for share, count in zip(shares, counts, strict=True)]
        allowed = [gap if count + step > 0 else -float("inf") for gap, count in zip(missing, counts, strict=True)]
        counts[allowed.index(max(allowed))] += step
    return counts
