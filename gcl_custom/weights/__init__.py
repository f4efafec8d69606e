"""Weights that a recipe takes from elsewhere: what it names, where they are, what they hold, how they are read."""
