"""Scoring backbones with labels, and the verdict."""
