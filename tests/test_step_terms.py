"""The terms `difference` and `flow_contrast`: their formulas written out, and what their optima are, by enumeration."""

import math

import pytest
import torch
from together import code_pair, codec, generator
from torch import Tensor

from cdcd_video.config import ContrastConfig
from cdcd_video.contrast_terms import contrast_terms
from cdcd_video.contrast_terms.difference import step_info_nce
from cdcd_video.contrast_terms.flow_contrast import capped_repulsion

ROWS, PLACES, WIDTH, TEMPERATURE = 4, 5, 3, 0.3


def steps() -> tuple[Tensor, Tensor, Tensor]:
    """Predicted and true steps, and which rows are each other's negatives: of 20 places one stands still in each row, one
    row stands still as a whole, two rows are of one clip, and two steps at one place are equal."""
    stream = generator("steps")
    predicted = torch.randn(ROWS, PLACES, WIDTH, generator=stream, dtype=torch.float64)
    true = torch.randn(ROWS, PLACES, WIDTH, generator=stream, dtype=torch.float64)
    true[:, 2] = 0
    true[3] = 0
    true[1, 4] = true[0, 4]
    predicted[0, :2] = true[0, :2] + 0.1 * predicted[0, :2]
    clip = torch.tensor([0, 1, 1, 2])
    return predicted, true, clip[:, None] != clip


def step_info_nce_by_hand(predicted: Tensor, true: Tensor, is_negative: Tensor) -> tuple[list[Tensor], list[float]]:
    nats, wins = [], []
    for row in range(ROWS):
        here, won = [], []
        for place in range(PLACES):
            step, d = predicted[row, place], true[row, place]
            if not d.any():
                continue
            wrong = [torch.zeros_like(d), -d]
            others = [true[other, place] for other in range(ROWS) if is_negative[row, other]]
            wrong += [other for other in others if not torch.equal(other, d)]
            near = torch.exp(-(step - d).norm() / TEMPERATURE)
            far = [torch.exp(-(step - other).norm() / TEMPERATURE) for other in wrong]
            here.append(-torch.log(near / (near + sum(far))))
            won.append(float(near > max(far)))
        nats.append(torch.stack(here).mean() if here else torch.zeros((), dtype=torch.float64))
        wins.append(sum(won) / len(won) if won else 1.0)
    return nats, wins


def test_the_contrast_of_steps_equals_its_formula_with_its_gradient():
    predicted, true, is_negative = steps()
    predicted.requires_grad_()
    nats, wins = step_info_nce(predicted, true, true, is_negative, TEMPERATURE)
    expected, won = step_info_nce_by_hand(predicted, true, is_negative)
    torch.testing.assert_close(nats, torch.stack(expected))
    assert wins.tolist() == pytest.approx(won) and 0 < wins[0] < 1 and wins[3] == 1
    weights = torch.tensor([0.3, -1.0, 2.0, 1.0], dtype=torch.float64)
    ours, theirs = (torch.autograd.grad((weights * loss).sum(), predicted)[0] for loss in (nats, torch.stack(expected)))
    torch.testing.assert_close(ours, theirs)
    assert not ours[3].any() and not ours[:, 2].any(), "places that stand still are no anchors"


def test_the_true_step_is_the_optimum_and_freezing_is_none():
    """Along the straight line from the zero step to the true one the loss falls all the way, and nothing lies below its end."""
    predicted, true, is_negative = steps()

    def loss(step: Tensor) -> Tensor:
        return step_info_nce(step, true, true, is_negative, TEMPERATURE)[0][:3]

    line = torch.stack([loss(share * true) for share in torch.linspace(0, 1, 11).tolist()])
    assert (line.diff(dim=0) < 0).all()
    at_truth, stream = loss(true), generator("anywhere")
    for scale in (0.01, 0.1, 1.0, 10.0):
        for _ in range(50):
            noise = torch.randn(predicted.shape, generator=stream, dtype=torch.float64)
            assert (loss(true + scale * noise) >= at_truth - 1e-12).all()
    step = true.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(step).sum(), step)
    assert slope.isfinite().all(), "the distance has no slope at 0, and must not give nan there"


def test_cosines_and_squared_distances_have_other_optima():
    """Why the score is the distance itself: a tenth of the true step has its cosine, and squares go on beyond it."""
    d = torch.tensor([1.0, 2.0, -1.0])
    assert torch.cosine_similarity(0.1 * d, d, 0) == pytest.approx(1.0)

    def squared(step: Tensor) -> Tensor:
        scores = torch.stack([-(step - d).square().sum(), -step.square().sum(), -(step + d).square().sum()])
        return scores.logsumexp(0) - scores[0]

    assert squared(2 * d) < squared(1.5 * d) < squared(d)


SPACE = codec().requires_grad_(False)


def terms_of(name: str, logits: Tensor):
    cfg = ContrastConfig(extra={name: 0.5}, share=1.0, temperature=TEMPERATURE)
    return contrast_terms(logits, None, code_pair(0), SPACE, cfg, None, None)[name]


def onehot_logits(codes: Tensor) -> Tensor:
    return 60.0 * torch.nn.functional.one_hot(codes, SPACE.num_codes).float()


@pytest.mark.parametrize("name", ["difference", "flow_contrast"])
def test_of_all_codes_at_a_place_the_true_one_has_the_least_loss(name: str):
    """Every code of every place of the first moving example, all others being right; a copy of the source is worse than right."""
    batch = code_pair(0)
    row = int((batch.target != batch.source).any(1).nonzero()[0])
    right = terms_of(name, onehot_logits(batch.target))
    frozen = terms_of(name, onehot_logits(batch.source))
    assert float(frozen.nats) > float(right.nats) and float(frozen.wins) < float(right.wins) == 1.0
    rises = []
    for place in range(batch.target.shape[1]):
        for code in range(SPACE.num_codes):
            codes = batch.target.clone()
            codes[row, place] = code
            rises.append(float(terms_of(name, onehot_logits(codes)).nats) - float(right.nats))
    assert min(rises) > -1e-6 and max(rises) > 1e-4


@pytest.mark.parametrize("name", ["difference", "flow_contrast"])
def test_the_gradient_reaches_the_logits_and_the_codec_stays(name: str):
    logits = torch.randn(*code_pair(0).target.shape, SPACE.num_codes, generator=generator("logits"), requires_grad=True)
    term = terms_of(name, logits)
    assert term.temperature is None and float(term.nats.detach()) > 0
    assert float(term.weighted.detach()) == pytest.approx(0.5 * float(term.nats.detach()))
    (slope,) = torch.autograd.grad(term.weighted, logits)
    assert slope.isfinite().all() and slope.abs().amax((1, 2)).count_nonzero() >= 3
    torch.testing.assert_close(slope.sum(-1), torch.zeros_like(slope[..., 0]), atol=1e-6, rtol=0)  # of a softmax


def test_frames_of_one_clip_are_no_negatives_of_each_other():
    batch = code_pair(0)
    logits = torch.randn(*batch.target.shape, SPACE.num_codes, generator=generator("logits"))
    is_other = batch.clip[:, None] != batch.clip
    assert (~is_other).sum() > len(is_other), "two rows are of one clip"
    earlier, true, expected = (
        SPACE.values(batch.source), SPACE.values(batch.target), SPACE.soft_values(logits.softmax(-1))
    )  # fmt: skip
    steps = step_info_nce(expected - earlier, true - earlier, true - earlier, is_other, TEMPERATURE)
    repulsion = capped_repulsion(expected, true, true, is_other)
    for name, (losses, wins) in (("difference", steps), ("flow_contrast", repulsion)):
        term = terms_of(name, logits)
        assert float(term.nats) == pytest.approx(float(losses.mean()), rel=1e-5)
        assert float(term.wins) == pytest.approx(float(wins.mean()), rel=1e-5)


# ------------------------------------------------------------------------------------------------------- flow_contrast


def values() -> tuple[Tensor, Tensor, Tensor]:
    """Predicted and true code values, of which two agree at a place, and which rows are each other's negatives."""
    predicted, true, is_negative = steps()
    return predicted, true + 1, is_negative


def test_the_capped_repulsion_equals_its_formula_with_its_gradient():
    predicted, true, is_negative = values()
    predicted.requires_grad_()
    losses, wins = capped_repulsion(predicted, true, true, is_negative)
    expected, won = [], []
    for row in range(ROWS):
        others = [true[other] for other in range(ROWS) if is_negative[row, other]]
        parts = [
            torch.clamp((true[row, n] - other[n]).square().sum() - (predicted[row, n] - other[n]).square().sum(), min=0)
            for other in others
            for n in range(PLACES)
        ]
        expected.append(sum(parts) / len(parts))
        own = (predicted[row] - true[row]).square().sum()
        won.append(float(all((predicted[row] - other).square().sum() > own for other in others)))
    torch.testing.assert_close(losses, torch.stack(expected))
    assert wins.tolist() == won
    ours, theirs = (torch.autograd.grad(loss.sum(), predicted)[0] for loss in (losses, torch.stack(expected)))
    torch.testing.assert_close(ours, theirs)


def test_the_cap_makes_the_truth_an_optimum_and_bounds_the_loss():
    predicted, true, is_negative = values()
    at_truth = true.clone().requires_grad_()
    losses, wins = capped_repulsion(at_truth, true, true, is_negative)
    assert not losses.any() and wins.all()
    assert not torch.autograd.grad(losses.sum(), at_truth)[0].any()
    cap = (true[:, None] - true).square().sum(-1).mean(-1)
    most = (cap * is_negative).sum(1) / is_negative.sum(1)
    for scale in (0.1, 1.0, 10.0, 1e3):
        losses, _ = capped_repulsion(scale * predicted, true, true, is_negative)
        assert (losses >= 0).all() and (losses <= most + 1e-12).all()


def test_without_the_cap_the_optimum_lies_beyond_the_truth():
    """|x - v|^2 - w |x - v'|^2 has its minimum at (v - w v') / (1 - w), by completing the square; with the cap at v."""
    v, other, weight = torch.tensor([0.2, -0.4, 1.0]), torch.tensor([-0.3, 0.1, 0.5]), 0.05
    beyond = ((v - weight * other) / (1 - weight)).requires_grad_()
    uncapped = (beyond - v).square().sum() - weight * (beyond - other).square().sum()
    assert torch.autograd.grad(uncapped, beyond)[0].abs().max() < 1e-6 and (beyond - v).norm() > 0.03
    x = v.clone().requires_grad_()
    loss = (x - v).square().sum()
    loss = (
        loss
        + weight * capped_repulsion(x[None, None], v[None, None], other[None, None], torch.ones(1, 1).bool())[0].sum()
    )
    assert not torch.autograd.grad(loss, x)[0].any()


def test_a_batch_without_negatives_costs_nothing():
    predicted, true, _ = steps()
    none = torch.zeros(ROWS, ROWS, dtype=torch.bool)
    losses, wins = capped_repulsion(predicted, true, true, none)
    assert not losses.any() and wins.all()
    nats, _ = step_info_nce(true, true, true, none, 1e-3)
    assert math.isclose(float(nats.max()), 0.0, abs_tol=1e-9), "the zero step and the reversed one are far away at once"
