"""Places of tiles on the ground: found in names, divided in blocks, and how near and how alike tiles are."""
