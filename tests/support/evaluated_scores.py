"""The content of a scores.json of given backbones."""

from typing import Any


def score(mean: float, interval: str) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.02, "high": mean + 0.02, "seeds": {"0": mean}, "interval": interval}


EVALUATED: dict[str, Any] = {
    "measure": "top-1",
    "test_tiles": 1234,
    "classes": ["a", "b"],
    "backbones": {
        "ours": {"spec": "run:r", "seeds": [0, 1], "input": "unit tiles"},
        "floor": {"spec": "untrained:<b>x</b>", "seeds": [0], "input": "unit tiles"},
    },
    "scores": {
        "ours": {"linear": score(0.9, "seeds"), "knn": score(0.8, "seeds"), "finetune@0.1": score(0.7, "seeds")},
        "floor": {"linear": score(0.5, "tiles"), "knn": score(0.4, "tiles")},
    },
    "comparisons": [{"outcome": "not shown", "sentence": "No difference shown between ours & floor."}],
    "labels": {"0.1": 45},
    "learning_rates": {},
    "split": "The split is the one that the folders give.",
    "warnings": [],
}
