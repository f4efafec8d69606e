"""Contrastive methods: one file each, with its equation, heads and loss terms."""
