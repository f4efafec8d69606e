"""Finished backbones for other software and for folders of images."""
