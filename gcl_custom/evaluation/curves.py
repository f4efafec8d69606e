"""Whether a training with labels went on long enough for its network to be compared with another one.

A curve holds the validation scores of a training, each with the step after which it was computed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from gcl_custom.counted import counted

Curve = Sequence[tuple[int, float]]
LAST = 1 / 3
"""The share of the steps, the last of them, that may bring no gain."""


class Training(TypedDict):
    """What is kept of a training, beside what its network says of tiles."""

    valid: float
    """The best validation score, that of the weights that were kept."""
    steps: int
    """Steps that were taken."""
    most_steps: int
    """Steps that it would have taken without an early end."""
    curve: list[tuple[int, float]]
    valid_tiles: int


def kept_training(outcome: Mapping[str, Any]) -> Training:
    """A training, from the outcome that its stage keeps."""
    return Training(**{key: outcome[key] for key in Training.__annotations__})  # type: ignore[typeddict-item]


def rise(training: Training) -> float | None:
    """How much better the last third of the steps was than all before; None where there is nothing before it.

    After an early end it is 0: half of all steps had brought nothing.
    """
    if training["steps"] < training["most_steps"]:
        return 0.0
    edge = (1 - LAST) * training["steps"]
    before = [score for step, score in training["curve"] if step <= edge]
    after = [score for step, score in training["curve"] if step > edge]
    return max(after) - max(before) if before and after else None


def noise(training: Training) -> float:
    """The standard error of a share on the validation tiles, the size of gains that mean nothing."""
    share = training["valid"]
    return math.sqrt(share * (1 - share) / training["valid_tiles"])


def unsettled(trainings: Sequence[Training]) -> str | None:
    """Why the trainings of several seeds did not level off, in words; None if they did.

    They did if the last third of the steps brought no gain beyond noise, in the mean over seeds.
    """
    rises = [rise(training) for training in trainings]
    steps = max((training["steps"] for training in trainings), default=0)
    if not rises or None in rises:
        return (
            f"its {counted(steps, 'step has', 'steps have')} too few validation scores to tell whether it levelled off"
        )
    mean = sum(filter(None, rises)) / len(rises)
    if mean <= max(map(noise, trainings)):
        return None
    return f"the last third of its {steps:,} steps still raised its validation score by {100 * mean:.1f} points"
