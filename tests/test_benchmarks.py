"""What benchmarks keep, and the table made of it."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import generator, peers, record, views
from benchmarks.__main__ import NAMES, PAGE, main, page
from benchmarks.plain_generator import Attention, PlainMaskGIT, PlainTokenizerTraining, PlainVQGAN, ResidualBlock
from benchmarks.record import Kept, Row
from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.generator.own.vqgan_loss import Reconstruction, adversarial_gradient
from gcl_custom.recipe.generator import MaskGITSettings, TokenizerSettings
from gcl_custom.recipe.hardware import HardwareSettings

ROWS = [
    Row(name="fast", ratio=6.92, target=5.0, detail="a | b"),
    Row(name="first step", ratio=4.756, target=8.0, detail="one thread", unit="s", most=True),
    Row(name="free", ratio=1.2, target=None, detail=""),
]


def test_what_is_kept_says_where_it_was_measured(tmp_path: Path) -> None:
    kept = record.measure("some", lambda: ROWS, tmp_path / "results")
    assert record.read(tmp_path / "results") == [kept]
    assert {"date", "processor", "threads", "load", "command"} <= kept.keys()
    assert {"python", "torch", "lightning-fabric"} <= kept["versions"].keys()


def test_each_row_states_figure_unit_and_goal(tmp_path: Path) -> None:
    kept = record.measure("some", lambda: ROWS, tmp_path)
    found = [cells[1:3] for cells in record.cells(kept)]
    assert found == [("6.92 times", "at least 5"), ("4.76 s", "at most 8"), ("1.2 times", "")]


def test_a_table_has_as_many_cells_in_each_line_as_heads(tmp_path: Path) -> None:
    lines = record.as_markdown([record.measure("some", lambda: ROWS, tmp_path)]).splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert {line.replace("\\|", "").count("|") for line in lines} == {len(record.HEADS) + 1}


def test_the_page_shows_what_is_kept_and_predictions_apart() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "<!-- benchmarks -->\n|" in text
    measured, predicted = text.split("<!-- scaling -->\n")
    assert predicted.startswith("|")
    assert "predicted, nothing ran on a GPU" in predicted
    assert "predicted, nothing ran on a GPU" not in measured
    assert page(text) == text, "python -m benchmarks --page writes it"


@pytest.mark.parametrize("path", sorted(record.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_kept_files_are_of_benchmarks_that_there_are(path: Path) -> None:
    kept: Kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept.keys() == Kept.__annotations__.keys()
    assert path.stem == kept["benchmark"]
    assert kept["benchmark"] in NAMES


def test_each_case_of_views_has_a_row_with_its_goal_and_what_views_are_like() -> None:
    torch.manual_seed(0)
    model, tokens = MaskGIT(13, 4, MaskGITSettings(width=32, depth=2, heads=2)), torch.randint(13, (6, 4, 4))
    found = views.compare("tiny", model, tokens.split(3), HardwareSettings(), lambda tokens: tokens.flatten(1).float())
    assert [row["target"] for row in found] == [goal for _, goal in views.CASES.values()]
    assert all(
        row["ratio"] > 0 and "feature distance" in row["detail"] and "2 rounds" in row["detail"] for row in found
    )


def test_where_all_codes_are_alike_the_likelihood_of_a_token_is_one_in_their_number() -> None:
    model, tokens = MaskGIT(13, 4, MaskGITSettings(width=32, depth=2, heads=2)), torch.randint(13, (3, 4, 4))
    with torch.no_grad():
        model.embedding.weight.zero_()
    painted = torch.arange(16).view(1, 4, 4).expand(3, 4, 4) < 5
    painted = painted & (torch.arange(3) < 2)[:, None, None]
    found = views.pseudo_log_likelihood(model.eval(), tokens, painted)
    torch.testing.assert_close(found[:2], torch.full((2,), -math.log(13)))
    assert found[2].isnan(), "a tile without in-painted tokens has none"


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(SystemExit, match="no benchmark veiws: there are start"):
        main(["veiws"])


def test_lightly_train_is_given_the_features_that_are_scored() -> None:
    network = peers.begun().eval()
    given, tiles = peers.Wrapped(network), torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pooled = given.forward_pool(given.forward_features(tiles))["pooled_features"]
        torch.testing.assert_close(pooled.flatten(1), network(tiles))
    assert given.feature_dim() == pooled.shape[1] == 1280


def test_the_table_beside_peers_has_a_line_for_each_training_and_the_start() -> None:
    scores = {metric: {"mean": 0.5, "low": 0.4567, "high": 0.6} for metric in peers.COLUMNS}
    trainings = [{"name": name, "epochs": 8, "processor_seconds": 89.6} for name in ("lightly", "pair")]
    kept = {"trainings": trainings, "scores": {"public": scores, "pair-8": scores, "lightly-8": scores}}
    about = {"test_tiles": 440, "command": "c", "commit": "a", "date": "d", "threads": 1, "processor": "p"}
    lines = [line for line in peers.as_markdown({**kept, **about, "versions": {}}).splitlines() if line[:1] == "|"]
    assert [line.split(" | ")[1] for line in lines[3:]] == ["8", "8"]
    assert [line.split(",")[0].removeprefix("| ") for line in lines[2:]] == ["public weights", "ours", "lightly"]
    assert {line.count("|") for line in lines} == {4 + len(peers.COLUMNS)}
    assert "| 90 | 50.0 (45.7-60.0) |" in lines[3]


def test_without_lightly_train_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        peers.main([str(tmp_path), str(tmp_path / "kept")])
    assert "pip install lightly-train==" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def side(name: str, seconds: float, figures: Callable[[int], dict[str, float]]) -> generator.Side:
    """A training whose steps take so long by a clock of its own."""
    times = itertools.count()
    made = generator.Side(name, lambda: None, lambda: figures(made.steps), lambda: (next(times) + 1) // 2 * seconds)
    return made


def test_a_step_that_takes_a_third_of_the_time_is_three_times_as_fast() -> None:
    row = generator.timed("step", [side("ours", 2.0, lambda _: {}), side("plain", 6.0, lambda _: {})], rounds=4)
    assert row["ratio"] == 3
    assert row["detail"].startswith("6.000 against 2.000 s")


def test_seconds_to_a_level_are_those_of_the_steps_up_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours needs 20 steps of a second, the plain side 30 of three. Where only ours gets there, it is a bound."""
    monkeypatch.setattr(generator, "CHUNK", 10)
    ours = side("ours", 1.0, lambda steps: {"psnr": steps, "gap": steps / 100})
    plain = side("plain", 3.0, lambda steps: {"psnr": steps / 1.5, "gap": 0.01})
    levels = {"psnr": 20.0, "gap": 0.3, "ssim": 0.5}
    reached, missed = generator.trained([ours, plain], levels, most=40)
    assert reached["ratio"] == pytest.approx(90 / 20)
    assert "more" not in reached["detail"]
    assert missed["ratio"] == pytest.approx(120 / 30)
    assert missed["detail"] == "120.0 s of processor time and more (at 0.01 after 40 steps) against 30.0 s"


TOKENIZER = TokenizerSettings(codes=11, code_width=4, channels=16, pixels_per_token=8, adversary_channels=8)


def test_the_plain_vqgan_has_the_blocks_of_taming_transformers() -> None:
    """For 8 px a token there are four resolutions, each with two blocks down and three up, and two in each middle."""
    torch.manual_seed(0)
    net = PlainVQGAN(2, TOKENIZER)
    blocks = [sum(isinstance(part, ResidualBlock) for part in half.modules()) for half in (net.encoder, net.decoder)]
    attention = [sum(isinstance(part, Attention) for part in half.modules()) for half in (net.encoder, net.decoder)]
    assert blocks == [4 * 2 + 2, 4 * 3 + 2]
    assert attention == [3, 4]
    tiles = torch.rand(3, 2, 32, 32)
    tokens = net.tokenise(tiles)
    assert tokens.shape == (3, 4, 4)
    assert int(tokens.max()) < 11
    torch.testing.assert_close(net(tiles)[0].clamp(0, 1), net.decode_tokens(tokens), msg="as its tokens say")


def test_the_plain_adaptive_weight_is_ours_at_one_pass_more() -> None:
    torch.manual_seed(0)
    net, tiles = PlainVQGAN(2, TOKENIZER), torch.rand(3, 2, 32, 32)
    loss = Reconstruction(0.03, None)
    training = PlainTokenizerTraining(net, 2, TOKENIZER, loss)
    fake, _ = net(tiles)
    pixels = fake.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(pixels, tiles)[0], pixels)
    (adversarial,) = torch.autograd.grad(-training.discriminator(pixels).mean(), pixels)
    ours = adversarial_gradient(fake, gradient, adversarial, net.last_layer, weight=1.0).adaptive
    before = [each.clone() for each in training.discriminator.parameters()]
    torch.testing.assert_close(training.step(tiles, joined=True), ours, rtol=1e-4, atol=0.0)
    assert not all(torch.equal(*pair) for pair in zip(before, training.discriminator.parameters(), strict=True))
    assert training.step(tiles, joined=False) == 0


def test_the_plain_maskgit_is_judged_at_hidden_tokens_and_sees_none_of_them() -> None:
    torch.manual_seed(0)
    net = PlainMaskGIT(13, 4, MaskGITSettings(width=32, depth=2, heads=2, dropout=0.0)).eval()
    tokens, hidden = torch.randint(13, (3, 4, 4)), torch.rand(3, 4, 4) < 0.5
    alone = [net.loss(tokens[[i]], hidden[[i]], 0.0) * hidden[i].sum() for i in range(3)]
    torch.testing.assert_close(net.loss(tokens, hidden, 0.0), sum(alone) / hidden.sum())
    with torch.no_grad():
        net.embedding.weight.zero_()
    assert net.loss(tokens, hidden, 0.0).item() == pytest.approx(math.log(13), rel=1e-5)
