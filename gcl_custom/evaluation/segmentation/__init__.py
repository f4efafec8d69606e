"""Scoring backbones where each pixel has a class: maps, probes of pixels, a decoder to train."""
