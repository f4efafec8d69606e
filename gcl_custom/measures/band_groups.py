"""The bands of a tile, three at a time, as networks of colour pictures see them.

Apart from these networks, which take seconds to import.
"""


def band_groups(bands: int) -> list[list[int]]:
    """The groups of three bands in which a tile with any number of bands is shown."""
    return [[band % bands for band in range(first, first + 3)] for first in range(0, bands, 3)]
