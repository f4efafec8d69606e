"""Which windows of scenes share ground with others: by their pixels within a scene, by their corners on earth across
scenes.

    n  windows     m  other windows     p  pairs of windows
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from gcl_custom.imagery.places.on_ground import directions

EDGE = 1e-3
"""Share of a window's side by which two may overlap and still only touch: coordinates are rounded."""
CHUNK = 4096
"""Windows whose neighbours are looked for at a time, and most of which it is asked how many share ground."""


@dataclass(frozen=True)
class Footprints:
    """Where windows lie.

    Attributes:
        scene: the number of each window's scene.
        windows: column, row, width and height in its scene. All windows have one size.
        corners: longitude and latitude of its corners, in order around it; NaN where they are not known.
    """

    scene: Int[np.ndarray, " n"]
    windows: Int[np.ndarray, "n 4"]
    corners: Float[np.ndarray, "n 4 2"]

    def shared(self, mine: Bool[np.ndarray, " n"], others: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Whether each of some windows shares a pixel, or ground, with one of the others."""
        found = np.zeros(len(self.scene), dtype=bool)
        for ours, theirs in self._by_scene(mine, others):
            found[ours] = _share_pixels(self.windows[ours], self.windows[theirs])
        there = np.isfinite(self.corners).all(axis=(1, 2))
        ours, theirs = np.flatnonzero(mine & ~found & there), np.flatnonzero(others & there)
        if len(ours) and len(theirs) and len(np.unique(self.scene[np.concatenate([ours, theirs])])) > 1:
            found[ours] = self._across(ours, theirs)
        return found

    @property
    def stacked(self) -> float:
        """Share of the windows, of some that are spread evenly, that share ground with a window of another scene."""
        there = np.flatnonzero(np.isfinite(self.corners).all(axis=(1, 2)))
        some = there[:: max(1, math.ceil(len(there) / CHUNK))]
        return float(self._across(some, there).sum() / len(some)) if len(some) else 0.0

    def _by_scene(
        self, mine: Bool[np.ndarray, " n"], others: Bool[np.ndarray, " n"]
    ) -> Iterator[tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]]:
        """The numbers of both kinds of windows in each scene that has both."""
        order = np.argsort(self.scene, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(self.scene[order])) + 1):
            ours, theirs = members[mine[members]], members[others[members]]
            if len(ours) and len(theirs):
                yield ours, theirs

    def _across(self, ours: Int[np.ndarray, " a"], theirs: Int[np.ndarray, " b"]) -> Bool[np.ndarray, " a"]:
        """Whether each of our windows shares ground with one of theirs in another scene."""
        ends, other_ends = (directions(self.corners[some].reshape(-1, 2)).reshape(-1, 4, 3) for some in (ours, theirs))
        centres, other_centres = ends.mean(axis=1), other_ends.mean(axis=1)
        reach, other_reach = _reach(ends, centres), _reach(other_ends, other_centres)
        tree = cKDTree(other_centres)
        found = np.zeros(len(ours), dtype=bool)
        for start in range(0, len(ours), CHUNK):
            some = np.arange(start, min(start + CHUNK, len(ours)))
            near = tree.query_ball_point(centres[some], reach[some] + other_reach.max())
            one = np.repeat(some, [len(each) for each in near])
            other = np.concatenate([np.asarray(each, dtype=np.int64) for each in near])
            apart = self.scene[ours[one]] != self.scene[theirs[other]]
            one, other = one[apart], other[apart]
            found[one[_overlap(ends[one], other_ends[other], centres[one])]] = True
        return found


def _share_pixels(windows: Int[np.ndarray, "n 4"], others: Int[np.ndarray, "m 4"]) -> Bool[np.ndarray, " n"]:
    """Windows of one side share a pixel where their corners are less than it apart along both axes."""
    apart, _ = cKDTree(others[:, :2]).query(windows[:, :2], p=np.inf)
    shared: Bool[np.ndarray, " n"] = np.asarray(apart) < windows[:, 2]
    return shared


def _reach(ends: Float[np.ndarray, "n 4 3"], centres: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """How far the corners of windows lie from their centres."""
    return np.asarray(np.linalg.norm(ends - centres[:, None], axis=2).max(axis=1))


def _overlap(
    ends: Float[np.ndarray, "p 4 3"], others: Float[np.ndarray, "p 4 3"], centres: Float[np.ndarray, "p 3"]
) -> Bool[np.ndarray, " p"]:
    """Whether two windows overlap, each by its corners as directions from the centre of the earth.

    On the plane that touches the earth below the first, two convex shapes lie apart just where a line along one of
    their edges separates them.
    """
    up = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    aside = np.where(np.abs(up[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    east = np.cross(aside, up)
    east /= np.linalg.norm(east, axis=1, keepdims=True)
    axes = np.stack([east, np.cross(up, east)], axis=2)
    flat, other = ((some - centres[:, None]) @ axes for some in (ends, others))
    edges = np.concatenate([np.roll(some, -1, axis=1) - some for some in (flat, other)], axis=1)
    lengths = np.linalg.norm(edges, axis=2)
    normals = np.stack([-edges[..., 1], edges[..., 0]], axis=1) / np.maximum(lengths, 1e-30)[:, None]
    ours, theirs = flat @ normals, other @ normals  # (p, 4 corners, 8 edges)
    depth = np.minimum(ours.max(axis=1), theirs.max(axis=1)) - np.maximum(ours.min(axis=1), theirs.min(axis=1))
    found: Bool[np.ndarray, " p"] = (depth > EDGE * lengths.min(axis=1, keepdims=True)).all(axis=1)
    return found
