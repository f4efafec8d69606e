"""The grammar of contrastive methods, each with the constants of its paper."""

from typing import Annotated, Literal

from pydantic import Field, Tag

from gcl_custom.recipe.section import Count, Positive, Section, Share, Widths, named

# ---------------------------------------------------------------- methods


class VICRegSettings(Section):
    name: Literal["vicreg"] = "vicreg"
    invariance: Positive = 25.0
    variance: Positive = 25.0
    covariance: Positive = 1.0
    projector: Widths = [2048, 2048, 2048]
    """Widths of the projector's layers."""


class BarlowTwinsSettings(Section):
    name: Literal["barlow_twins"]
    redundancy: Positive = 0.005
    """Weight of the squared cross-correlations between different numbers."""
    projector: Widths = [2048, 2048, 2048]
    """Widths of the projector's layers."""


class SimCLRSettings(Section):
    name: Literal["simclr"]
    temperature: Positive = 0.1
    projector: Widths = [2048, 128]
    """Widths of the projector's layers."""


class ByolSettings(Section):
    name: Literal["byol"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Of the teacher, at the start; it rises to 1 by a cosine. The paper has 0.99 for 300 epochs, 0.996 for 1,000."""
    projector: Widths = [4096, 256]
    """Widths of the projector's layers; the predictor has the same."""


class DinoSettings(Section):
    name: Literal["dino"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.996
    """Of the teacher, at the start; it rises to 1 by a cosine."""
    projector: Widths = [2048, 2048, 256]
    """Widths of the projector's layers; the last one's output is normalised."""
    outputs: Annotated[int, Field(ge=2)] = 65536
    """Number of classes that student and teacher sort views into."""
    student_temperature: Positive = 0.1
    teacher_temperature: Positive = 0.04
    centre_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of the mean output of the teacher, which is taken from its outputs so that no class wins all."""
    frozen: Share = 0.01
    """Share of the run in which the last layer stays as it was initialised."""


class SwavSettings(Section):
    name: Literal["swav"]
    projector: Widths = [2048, 128]
    """Widths of the projector's layers; the last one's output is normalised."""
    prototypes: Annotated[int, Field(ge=2)] = 3000
    temperature: Positive = 0.1
    epsilon: Positive = 0.05
    """Of Sinkhorn's regularisation: larger spreads each tile over more prototypes."""
    sinkhorn_iterations: Count = 3
    queue: Annotated[int, Field(ge=0)] = 0
    """Projections of earlier batches that join in the assignment, for batches with fewer tiles than prototypes."""
    queue_from: Share = 0.15
    """Share of the run after which they do."""
    frozen: Share = 0.01
    """Share of the run in which the prototypes stay as they were initialised."""


MethodSettings = Annotated[
    Annotated[VICRegSettings, Tag("vicreg")]
    | Annotated[BarlowTwinsSettings, Tag("barlow_twins")]
    | Annotated[SimCLRSettings, Tag("simclr")]
    | Annotated[ByolSettings, Tag("byol")]
    | Annotated[DinoSettings, Tag("dino")]
    | Annotated[SwavSettings, Tag("swav")],
    named("vicreg"),
]
