"""The settings of packed tiles in object storage."""

import re
from typing import Annotated

from pydantic import Field, field_validator

from gcl_custom.recipe.section import Positive, Section

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://.+")


class StoreSettings(Section):
    """Packed tiles in object storage, where gcl-custom push has put them. They are taken in place of what lies below
    data.root, which need not be there. Shards are fetched whole when they are needed, and kept in a cache."""

    address: str
    """Where they lie, as fsspec writes it: s3://BUCKET/PREFIX, gs://..., file:///.... Keys and servers stand in the
    variables of each service, such as AWS_PROFILE and AWS_ENDPOINT_URL."""
    cache: str = "~/.cache/gcl-custom/shards"
    """Folder for fetched shards. All runs and processes of a machine may share it."""
    cache_gb: Positive = 20.0
    """Gigabytes that it may hold. If a shard needs room, those that were not used for longest go."""
    mixed_shards: Annotated[int, Field(ge=1, le=10**4)] = 8
    """Number of shards that an epoch takes tiles from at a time. More mix better; the cache must hold two more."""
    retries: Annotated[int, Field(ge=0, le=100)] = 8
    """Attempts after one that failed, after pauses of half a second, a second, and so on up to half a minute."""

    @field_validator("address")
    @classmethod
    def _address(cls, given: str) -> str:
        if not ADDRESS.fullmatch(given):
            raise ValueError(f"{given!r} is no address: take s3://BUCKET/PREFIX, or file:///FOLDER for a disk")
        return given.rstrip("/")
