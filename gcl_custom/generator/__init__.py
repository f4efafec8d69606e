"""Generators: encode tiles to features, augment the features, decode them to tiles."""
