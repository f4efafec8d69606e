import pytest
from pydantic import ValidationError

from gcl_custom.recipe.store import StoreSettings


@pytest.mark.parametrize("address", ["s3://bucket/a/b", "gs://bucket", "file:///mnt/tiles", "https://server/a"])
def test_addresses_are_those_of_fsspec(address: str) -> None:
    assert StoreSettings(address=f"{address}/").address == address


@pytest.mark.parametrize("address", ["", "/mnt/tiles", "bucket/a", "s3:bucket", "s3://", "://a"])
def test_a_path_is_no_address(address: str) -> None:
    with pytest.raises(ValidationError, match="is no address: take s3://BUCKET/PREFIX, or file:///FOLDER"):
        StoreSettings(address=address)
