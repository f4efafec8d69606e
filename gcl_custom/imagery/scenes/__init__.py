"""Rasters larger than a tile: opened by path, cut into windows, and read window by window. It knows no tile."""
