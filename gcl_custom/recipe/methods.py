"""The grammar of ``pretrain.method``: contrastive methods, each with the constants of its paper."""

from typing import Annotated, Literal

from pydantic import Field, Tag

from gcl_custom.recipe.section import Count, Positive, Section, Share, Widths, named


class VICRegSettings(Section):
    """VICReg (arXiv:2105.04906)."""

    name: Literal["vicreg"] = "vicreg"
    invariance: Positive = 25.0
    """Weight of the distance between the two views (λ)."""
    variance: Positive = 25.0
    """Weight of the hinge that keeps the deviation of each number from falling below 1 (μ)."""
    covariance: Positive = 1.0
    """Weight of the squared covariances between different numbers (ν)."""
    projector: Widths = [2048, 2048, 2048]
    """Widths of the projector's layers."""


class BarlowTwinsSettings(Section):
    """Barlow Twins (arXiv:2103.03230)."""

    name: Literal["barlow_twins"]
    redundancy: Positive = 0.005
    """Weight of the squared cross-correlations between different numbers."""
    projector: Widths = [2048, 2048, 2048]
    """Widths of the projector's layers."""


class SimCLRSettings(Section):
    """SimCLR (arXiv:2002.05709)."""

    name: Literal["simclr"]
    temperature: Positive = 0.1
    """Divides cosine similarities before the softmax."""
    projector: Widths = [2048, 128]
    """Widths of the projector's layers."""


class ByolSettings(Section):
    """BYOL (arXiv:2006.07733)."""

    name: Literal["byol"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Momentum of the teacher at the start; it rises to 1 along a cosine. The paper uses 0.99 for 300 epochs and 0.996
    for 1,000."""
    projector: Widths = [4096, 256]
    """Widths of the projector's layers. The predictor has the same."""


class DinoSettings(Section):
    """DINO (arXiv:2104.14294)."""

    name: Literal["dino"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.996
    """Momentum of the teacher at the start; it rises to 1 along a cosine."""
    projector: Widths = [2048, 2048, 256]
    """Widths of the projector's layers. The output of the last is normalised."""
    outputs: Annotated[int, Field(ge=2, le=2**20)] = 65536
    """Number of classes into which student and teacher sort views."""
    student_temperature: Positive = 0.1
    """Divides the student's logits before the softmax."""
    teacher_temperature: Positive = 0.04
    """Divides the teacher's logits before the softmax."""
    centre_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of the teacher's mean output. It is subtracted from the outputs, so that no class wins all."""
    frozen: Share = 0.01
    """Share of the run during which the last layer keeps its initial weights."""


class SwavSettings(Section):
    """SwAV (arXiv:2006.09882)."""

    name: Literal["swav"]
    projector: Widths = [2048, 128]
    """Widths of the projector's layers. The output of the last is normalised."""
    prototypes: Annotated[int, Field(ge=2, le=2**20)] = 3000
    """Number of prototypes, to which tiles are assigned."""
    temperature: Positive = 0.1
    """Divides the scores of the prototypes before the softmax."""
    epsilon: Positive = 0.05
    """Regularisation of Sinkhorn's algorithm: larger values spread each tile over more prototypes."""
    sinkhorn_iterations: Count = 3
    """Iterations of Sinkhorn's algorithm."""
    queue: Annotated[int, Field(ge=0, le=2**22)] = 0
    """Projections of earlier batches that take part in the assignment, for batches smaller than the number of
    prototypes."""
    queue_from: Share = 0.15
    """Share of the run after which the queue takes part."""
    frozen: Share = 0.01
    """Share of the run during which the prototypes keep their initial values."""


class LeJEPASettings(Section):
    """LeJEPA (arXiv:2511.08544)."""

    name: Literal["lejepa"]
    regularisation: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Weight of the test that projections are normal (λ). The distance of views to the mean of the large ones has the
    rest of 1. A larger batch gives the test more weight."""
    slices: Annotated[int, Field(ge=1, le=2**20)] = 1024
    """Number of random directions along which projections are tested in a step."""
    projector: Widths = [2048, 2048, 64]
    """Widths of the projector's layers."""


class DistilSettings(Section):
    """Views are not compared with each other: what pretrain.targets asks for is all there is to learn."""

    name: Literal["distil"]


MethodSettings = Annotated[
    Annotated[VICRegSettings, Tag("vicreg")]
    | Annotated[BarlowTwinsSettings, Tag("barlow_twins")]
    | Annotated[SimCLRSettings, Tag("simclr")]
    | Annotated[ByolSettings, Tag("byol")]
    | Annotated[DinoSettings, Tag("dino")]
    | Annotated[SwavSettings, Tag("swav")]
    | Annotated[LeJEPASettings, Tag("lejepa")]
    | Annotated[DistilSettings, Tag("distil")],
    named("vicreg"),
]
