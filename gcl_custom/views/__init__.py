"""Views of tiles: generative ones, made once and kept, and handcrafted ones."""
