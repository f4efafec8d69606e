"""Laws of the quantizer, and agreement with vector-quantize-pytorch."""

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from vector_quantize_pytorch import VectorQuantize

from gcl_custom.generator.own.quantizer import VectorQuantizer, share_and_perplexity


def features(seed: int, b: int = 4, d: int = 6, side: int = 5) -> Tensor:
    return torch.randn(b, d, side, side, generator=torch.Generator().manual_seed(seed))


def fresh(codes: int, width: int, **settings: object) -> VectorQuantizer:
    usual: dict[str, object] = {"codebook": "ema", "commitment": 0.25, "decay": 0.99, "revive_after": 200}
    return VectorQuantizer(codes, width, **usual | settings)  # type: ignore[arg-type]


def started(codes: int, width: int, **settings: object) -> VectorQuantizer:
    """A quantizer whose codebook keeps its random start."""
    quantizer = fresh(codes, width, **settings)
    quantizer.started.fill_(True)
    return quantizer


def test_the_nearest_code_is_that_of_the_slow_search() -> None:
    quantizer = started(17, 6).eval()
    x = features(0)
    tokens = quantizer(x).tokens
    for b in range(x.shape[0]):
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                distances = [torch.dist(x[b, :, i, j], code).item() for code in quantizer.codebook]
                assert tokens[b, i, j] == min(range(17), key=distances.__getitem__)


def test_comparing_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer = started(17, 6).eval()
    whole = quantizer.tokens(features(0))
    monkeypatch.setattr("gcl_custom.generator.own.quantizer.COMPARED_AT_ONCE", 4 * 17)
    assert torch.equal(quantizer.tokens(features(0)), whole)


def test_tokens_and_look_up_agree_with_the_forward_pass() -> None:
    quantizer = started(17, 6).eval()
    quantised = quantizer(features(0))
    assert torch.equal(quantizer.tokens(features(0)), quantised.tokens)
    torch.testing.assert_close(quantizer.look_up(quantised.tokens), quantised.features)


def test_the_ema_codebook_follows_vector_quantize_pytorch_step_by_step() -> None:
    ours = started(16, 6, decay=0.8, revive_after=10**6)
    theirs = VectorQuantize(dim=6, codebook_size=16, decay=0.8, threshold_ema_dead_code=0, accept_image_fmap=True)
    ours.codebook.copy_(theirs.codebook)
    ours.sums.copy_(theirs.codebook)
    for step in range(8):
        x = features(step)
        quantised = ours(x)
        their_features, their_tokens, _ = theirs(x)
        assert torch.equal(quantised.tokens, their_tokens)
        torch.testing.assert_close(quantised.features, their_features)
        torch.testing.assert_close(ours.codebook, theirs.codebook)


def test_with_a_long_memory_the_ema_codes_are_the_means_of_their_features() -> None:
    quantizer = started(2, 1, decay=0.5, revive_after=10**6)
    quantizer.codebook.copy_(torch.tensor([[-1.0], [1.0]]))
    quantizer.sums.copy_(quantizer.codebook)
    x = torch.tensor([-3.0, -1.0, 2.0, 4.0]).view(1, 1, 2, 2)
    for _ in range(60):
        quantizer(x)
    torch.testing.assert_close(quantizer.codebook.flatten(), torch.tensor([-2.0, 3.0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_the_gradient_passes_straight_through(codebook: str) -> None:
    quantizer = started(16, 6, codebook=codebook, commitment=0.0)
    x = features(0).requires_grad_()
    weight = features(1)
    (quantizer(x).features * weight).sum().backward()
    torch.testing.assert_close(x.grad, weight)


def test_the_commitment_pulls_features_and_the_codebook_term_pulls_codes() -> None:
    """VQ-VAE, eq. 3: beta stands at the commitment, not at the codebook term."""
    quantizer = started(16, 6, codebook="gradient", commitment=0.25)
    x = features(0).requires_grad_()
    quantised = quantizer(x)
    quantised.loss.backward()
    error = x.detach() - quantizer.look_up(quantised.tokens).detach()
    torch.testing.assert_close(quantised.loss, 1.25 * error.square().mean())
    torch.testing.assert_close(x.grad, 0.25 * 2 * error / error.numel())
    flat = error.movedim(1, -1).reshape(-1, 6)
    expected = torch.zeros(16, 6).index_add_(0, quantised.tokens.flatten(), -2 * flat / error.numel())
    torch.testing.assert_close(quantizer.codebook.grad, expected)


def test_the_ema_codebook_has_no_gradient_and_stays_in_evaluation() -> None:
    quantizer = started(16, 6)
    assert list(quantizer.parameters()) == []
    quantizer.eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(features(0))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_the_first_batch_draws_the_codebook_from_its_features() -> None:
    quantizer = fresh(10, 6, codebook="gradient")
    x = features(0)
    quantizer(x)
    flat = {tuple(f) for f in x.movedim(1, -1).reshape(-1, 6).tolist()}
    codes = {tuple(code) for code in quantizer.codebook.tolist()}
    assert codes <= flat
    assert len(codes) == 10
    kept = quantizer.codebook.detach().clone()
    quantizer(features(1))
    assert torch.equal(quantizer.codebook, kept)


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_a_code_is_moved_to_a_feature_after_just_so_many_steps_without_use(codebook: str) -> None:
    quantizer = started(3, 2, codebook=codebook, revive_after=4)
    far = torch.tensor([[0.0, 0.0], [1.0, 1.0], [100.0, 100.0]])
    quantizer.codebook.data.copy_(far)
    if codebook == "ema":
        quantizer.sums.copy_(far)
    x = torch.rand(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        quantizer(x)
    assert quantizer.codebook[2].min() > 50
    assert quantizer.steps_unused.tolist() == [0, 0, 3]
    quantizer(x)
    flat = x.movedim(1, -1).reshape(-1, 2)
    assert (flat == quantizer.codebook[2]).all(1).any()
    if codebook == "ema":
        assert quantizer.counts[2] == 1
        assert torch.equal(quantizer.sums[2], quantizer.codebook[2])
    quantizer(x)
    assert quantizer.steps_unused[2] == 0


def test_a_code_in_use_is_never_moved_to_a_feature() -> None:
    quantizer = started(2, 1, codebook="gradient", revive_after=1)
    quantizer.codebook.data.copy_(torch.tensor([[0.0], [1.0]]))
    quantizer(torch.tensor([0.1, 0.2, 0.8, 0.9]).view(1, 1, 2, 2))
    assert quantizer.codebook.flatten().tolist() == [0.0, 1.0]


def pair() -> tuple[VectorQuantizer, VectorQuantizer]:
    """One that starts from given codes and revives none, and one that starts from its features and revives often."""
    torch.manual_seed(5)
    return started(16, 6, decay=0.8, revive_after=10**6), fresh(16, 6, decay=0.8, revive_after=1)


def learn_as_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    for number, quantizer in enumerate(pair()):
        torch.manual_seed(rank)  # draws of their own
        for step in range(6):
            quantizer(features(step)[2 * rank : 2 * rank + 2])
        torch.save(quantizer.state_dict(), folder / f"{number}-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_learn_as_one_and_share_their_draws(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=learn_as_rank, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    counted, revived = (
        [torch.load(tmp_path / f"{number}-{rank}.pt", weights_only=True) for rank in range(2)] for number in range(2)
    )
    for first, second in (counted, revived):
        assert all(torch.equal(first[name], second[name]) for name in first)
    alone = pair()[0]
    for step in range(6):
        alone(features(step))
    torch.testing.assert_close(counted[0], dict(alone.state_dict()))


def test_autocast_does_not_touch_the_search() -> None:
    quantizer = started(64, 6).eval()
    x = features(0)
    with torch.autocast("cpu", torch.bfloat16):
        quantised = quantizer(x)
    assert quantised.features.dtype == torch.float32
    assert torch.equal(quantised.tokens, quantizer(x).tokens)


def test_share_and_perplexity_of_known_counts() -> None:
    assert share_and_perplexity(torch.tensor([5, 5, 5, 5])) == pytest.approx((1.0, 4.0))
    assert share_and_perplexity(torch.tensor([9, 0, 0, 0])) == pytest.approx((0.25, 1.0))
    entropy = -(0.75 * torch.tensor(0.75).log() + 0.25 * torch.tensor(0.25).log())
    assert share_and_perplexity(torch.tensor([3, 1, 0, 0])) == pytest.approx((0.5, entropy.exp().item()))


def test_the_losses_of_a_quantised_feature_are_zero_at_its_code() -> None:
    quantizer = started(4, 6).eval()
    at_codes = F.embedding(torch.tensor([[[0, 1], [2, 3]]]), quantizer.codebook).movedim(-1, 1)
    assert quantizer(at_codes).loss == 0
