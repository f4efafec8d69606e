"""Tiles that lie together in a few files: archives, shards, Parquet, stacks of arrays. They are read where they lie."""
