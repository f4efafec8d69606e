"""Rasters larger than a tile: opened by path, read window by window, labelled by what lies there. It knows no tile."""
