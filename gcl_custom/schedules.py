"""What changes over a run: factors of a learning rate, and when a run winds down.

A cosine must know the number of its steps beforehand. Where a run ends by what it has reached, the rate stays at its
highest, and falls over the last share of the steps alone, once it is known which these are. At equal steps that reaches
what a cosine does (Hägele et al., arXiv:2405.18392).
"""

import math
from collections.abc import Sequence


def cosine(done: int | float, total: int | float) -> float:
    """From 1 at the start to 0 at the end, along half a period of the cosine."""
    return (1 + math.cos(math.pi * done / total)) / 2


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """A line up to 1 over the first share of the steps, then a cosine down to 0."""
    rising = round(steps * warmup)
    if step < rising:
        return (step + 1) / rising
    return cosine(step - rising, max(1, steps - rising))


def rise_times_cosine(share_done: float, rising: float) -> float:
    """A cosine from 1 to 0 over the whole run, times a line up to 1 over its first share.

    Unlike ``warmup_cosine``, it falls from the first step on. With that one, the published figures of the tokenizer
    and of MaskGIT would change.
    """
    return min(share_done / rising, 1.0) * cosine(share_done, 1.0)


def rise_stay_fall(step: int, steps: int, rising: int | float, falling: float) -> float:
    """A line up to 1, then 1, then a line down to 0.

    Args:
        steps: of the whole run. The number may shrink while the rate is at its highest.
        rising: number of steps of the line up.
        falling: share of the run's steps on the line down.
    """
    up = (step + 1) / rising if step < rising else 1.0
    return min(up, (steps - step) / (falling * steps), 1.0)


def flat_since(losses: Sequence[tuple[int, float]], share: float, least: float) -> int | None:
    """When the best loss had hardly fallen for a share of the time so far.

    Time counts by shares, since losses fall about with its logarithm: a rule with a fixed number of epochs would be too
    hasty for a long run and too patient for a short one.

    Args:
        losses: times, such as epochs, and the loss at each, in order.
        share: of the time so far.
        least: fall of the best loss within that share with which the run goes on.

    Returns:
        The first such time; None where there is none yet.
    """
    for number, (now, _) in enumerate(losses):
        before = [loss for time, loss in losses[:number] if time <= (1 - share) * now]
        if before and min(before) - min(loss for _, loss in losses[: number + 1]) < least:
            return now
    return None
