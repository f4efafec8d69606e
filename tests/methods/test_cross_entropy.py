import torch

from gcl_custom.methods.cross_entropy import cross_entropy


def test_every_large_view_is_predicted_from_every_other_view() -> None:
    wanted = torch.rand(2, 4, 5).softmax(dim=2)
    logp = torch.rand(5, 4, 5).log_softmax(dim=2)
    terms = [
        -sum(float(p) * float(q) for p, q in zip(wanted[t, tile], logp[s, tile], strict=True))
        for t in range(2)
        for s in range(5)
        for tile in range(4)
        if s != t
    ]
    torch.testing.assert_close(cross_entropy(wanted, logp), torch.tensor(sum(terms) / len(terms)))
