"""From files to packed tiles: decoding, layouts, labels, splits, the tile store."""
