"""The content of a results.json of the table of augmentations."""

from typing import Any

ROW = {
    "name": "in-painting, p = 0.25", "feature_distance": 123.456, "ssim": 0.71868, "perceptual_distance": 0.0123456,
    "ms_alone": 45.678, "ms_at_best": 3.21098, "best_batch": 64, "parameters": 1234567, "megabytes": 0.0,
    "megabytes_of_1000_views": 12.288,
}  # fmt: skip
RESULTS: dict[str, Any] = {
    "tiles": 99, "split": "valid", "size": 64, "feature_network": "a network", "device": "a processor, 2 threads",
    "precision": "bf16", "floor": 98.7654, "augmentations": [ROW],
}  # fmt: skip
