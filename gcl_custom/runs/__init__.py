"""Runs: folders of stages with fingerprints, and the plan of which stage reads what."""
