"""The training loop, its batches, devices and processes."""
