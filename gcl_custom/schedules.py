"""What changes over a run: factors of a learning rate."""

import math


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
