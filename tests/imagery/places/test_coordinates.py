import numpy as np
import pytest

from gcl_custom.imagery.places.coordinates import known, places_in_names


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("train/fire/-73.12,45.4.jpg", (-73.12, 45.4)),
        ("-73.758236,45.403743.jpg", (-73.758236, 45.403743)),
        ("-74,45.5.tif", (-74, 45.5)),
        ("fire_10.25, 50.5_2019.png", (10.25, 50.5)),
        ("lon-73.12_lat45.4.tif", (-73.12, 45.4)),
        ("lat_45.4_lon_-73.12.tif", (-73.12, 45.4)),
        ("Longitude=7.5 Latitude=-3.jpg", (7.5, -3)),
    ],
)
def test_names_hold_longitude_and_latitude(name: str, place: tuple[float, float]) -> None:
    assert places_in_names([name] * 3).tolist() == [list(place)] * 3


@pytest.mark.parametrize(
    "name", ["12,7.png", "a_1.5.jpg", "1.5,2.5,3.5.jpg", "Forest_12.jpg", "200.5,45.2.jpg", "a.b,c.d"]
)
def test_other_numbers_are_no_places(name: str) -> None:
    assert not known(places_in_names([name] * 3)).any()


def test_latitude_comes_first_where_only_that_can_be() -> None:
    assert places_in_names(["45.4,-73.1.jpg", "49.1,-123.2.jpg"]).tolist() == [[-73.1, 45.4], [-123.2, 49.1]]


def test_a_slip_among_many_names_has_no_place_and_few_places_among_names_are_none() -> None:
    names = [f"-73.{number:02d},45.4.jpg" for number in range(30)]
    found = places_in_names([*names, "readme.jpg"])
    assert known(found).sum() == 30
    assert np.isnan(found[-1]).all()
    assert not known(places_in_names([*names, *(f"{number}.jpg" for number in range(30))])).any()
    assert places_in_names([]).shape == (0, 2)
