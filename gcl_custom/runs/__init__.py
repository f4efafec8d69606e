"""Runs: folders of stages with fingerprints, the plan of which stage reads what, and studies."""
