"""What the values of a tile are: their type, which bands, what is missing, and how they become 0 to 1."""
