"""What a backbone says on the ground: maps of whole scenes, and the tiles that are most alike."""
