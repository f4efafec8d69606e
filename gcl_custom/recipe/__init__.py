"""The grammar of recipes: strict sections with their defaults, and the files they are read from."""
