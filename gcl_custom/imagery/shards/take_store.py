"""Take the index of packed tiles from object storage, in place of packing files."""

import json
from pathlib import Path
from typing import Any

from gcl_custom.console import in_bytes, say
from gcl_custom.counted import counted
from gcl_custom.errors import UserError
from gcl_custom.files import bytes_digest, discard, write_bytes
from gcl_custom.imagery.shards.object_storage import ObjectStorage
from gcl_custom.imagery.shards.streamed_shards import keep_settings
from gcl_custom.recipe.store import StoreSettings
from gcl_custom.runs.stage import Stage

STORE = "store.json"
"""What a pushed store is. It is written last, so that no half of a store is taken for one."""
LISTS = ("unusable.txt", "duplicates.txt")
"""Texts beside the index, for people."""
FORM = 1
"""Number that goes up when a pushed store changes its form."""


def settings_to_fit(data: dict[str, Any]) -> dict[str, Any]:
    """Of the settings that tiles are packed with: those that a recipe must share with a store. Keys are dotted."""

    def flat(value: Any, key: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return {k: v for name, inner in value.items() for k, v in flat(inner, f"{key}.{name}").items()}
        return {key: value}

    return flat({name: value for name, value in data.items() if name not in ("root", "store")}, "data")


def take_store(stage: Stage, settings: StoreSettings, index: str) -> None:
    """Take what says which tiles there are. Their pixels are fetched by those that read them.

    Once it was taken it stays, until --redo asks for what is there now.

    Args:
        stage: that of the tiles.
        index: name of the index's file.

    Raises:
        UserError: there is no such store, it was packed with other settings, the cache holds too few of its shards, or
            the connection is lost.
    """
    done = f"tiles: done before, in {stage.path}; pixels come from {settings.address}"
    if stage.done and not stage.redo:
        keep_settings(stage.path, settings)
        say(done)
        return
    storage = ObjectStorage(settings.address, settings.retries)
    about = json.loads(storage.read(STORE))
    if stage.done and (stage.path / index).is_file() and stage.facts["content"] == about["facts"]["content"]:
        keep_settings(stage.path, settings)
        say(done)
        return
    if about["form"] != FORM:
        raise UserError(f"{settings.address} was pushed by another version. Push it again: gcl-custom push ADDRESS")
    mine, theirs = settings_to_fit(dict(stage.settings["data"])), about["data"]
    other = [f"{key}: {theirs.get(key)} there, {mine.get(key)} in this recipe"
             for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]  # fmt: skip
    if other:
        raise UserError(
            f"{settings.address} was packed with other settings ({'; '.join(other)}). Set these keys as they are "
            f"there, or push tiles that were packed with this recipe: gcl-custom push ADDRESS"
        )
    needed = (min(settings.mixed_shards, about["shards"]) + 2) * about["shard_bytes"]
    if settings.cache_gb * 1e9 < needed:
        raise UserError(
            f"data.store.cache_gb {settings.cache_gb:g} is too little: {settings.mixed_shards} mixed shards and two "
            f"more take {in_bytes(needed)}. Raise it, or lower data.store.mixed_shards"
        )
    content = storage.read(index)
    if bytes_digest(content) != about["facts"]["content"]:
        raise UserError(
            f"{settings.address}/{index} does not belong to {STORE} beside it: somebody is pushing, or a push was "
            f"stopped. Push the tiles again: gcl-custom push ADDRESS"
        )
    if stage.done:
        discard(stage.path)
    stage.begin()
    for name in LISTS:
        write_bytes(stage.path / name, storage.read(name))
    keep_settings(stage.path, settings)
    write_bytes(stage.path / index, content)
    stage.finish(**about["facts"])
    counts = about["facts"]["tiles"]
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    where = f"{counted(about['shards'], 'shard')} in {settings.address}, kept in {Path(settings.cache).expanduser()}"
    say(f"tiles: {sum(counts.values()):,}, {shown}; {where}")
