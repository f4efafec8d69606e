"""Rasters larger than a tile, by path or address: read by windows, labelled by what lies there. It knows no tile."""
