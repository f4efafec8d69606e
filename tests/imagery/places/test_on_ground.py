import math

import numpy as np
import pytest

from gcl_custom.imagery.places.on_ground import DEGREE_KM, EARTH_KM, nearest_km, squares_degrees, squares_km


def haversine(one: np.ndarray, other: np.ndarray) -> float:
    """R. W. Sinnott, 1984: an independent formula of the distance along a great circle."""
    (east, north), (to_east, to_north) = np.radians(one), np.radians(other)
    inner = math.sin((to_north - north) / 2) ** 2
    inner += math.cos(north) * math.cos(to_north) * math.sin((to_east - east) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(inner))


def test_the_nearest_of_all_by_the_slow_formula() -> None:
    rng = np.random.default_rng(0)
    places, others = (np.column_stack([rng.uniform(-180, 180, n), rng.uniform(-90, 90, n)]) for n in (40, 60))
    slow = [min(haversine(place, other) for other in others) for place in places]
    assert nearest_km(places, others) == pytest.approx(slow)


def test_neighbours_across_the_date_line_and_the_pole_are_near() -> None:
    assert nearest_km(np.array([[179.99, 0.0]]), np.array([[-179.99, 0.0]])) == pytest.approx([0.02 * DEGREE_KM])
    assert nearest_km(np.array([[0.0, 89.9]]), np.array([[180.0, 89.9]])) == pytest.approx([0.2 * DEGREE_KM])


@pytest.mark.parametrize("side", [0.5, 10.0, 333.0])
def test_squares_are_as_large_as_they_are_said_to_be(side: float) -> None:
    """No two places of a square are further apart than its diagonal, but for the curvature of large ones."""
    rng = np.random.default_rng(1)
    centre = np.array([[-73.0, 46.0], [10.0, 60.0], [179.9, -20.0]])
    spread = 3 * side / DEGREE_KM
    places = np.concatenate([at + rng.uniform(-spread, spread, (300, 2)) for at in centre])
    places[:, 0] = (places[:, 0] + 180) % 360 - 180
    keys, numbers = np.unique(squares_km(places, side), axis=0, return_inverse=True)
    assert len(keys) > 30
    for number in range(len(keys)):
        inside = places[numbers.reshape(-1) == number]
        assert max(haversine(inside[0], other) for other in inside) <= 1.1 * math.sqrt(2) * side


def test_squares_of_degrees_stand_on_a_grid_that_closes() -> None:
    places = np.array([[0.1, 0.1], [0.4, 0.2], [0.6, 0.1], [180.0, 0.1], [-180.0, 0.1], [-73.2, -45.1]])
    found = squares_degrees(places, 0.5).tolist()
    assert found == [[180, 360], [180, 360], [180, 361], [180, 0], [180, 0], [89, 213]]
