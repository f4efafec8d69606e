"""Packed tiles in files of bounded size: on this machine's disk, or in object storage with a local cache."""
