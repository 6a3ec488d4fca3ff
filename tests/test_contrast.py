"""InfoNCE and the two contrastive terms."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from cdcd_video.contrast.loss import info_nce


def rows(*seeds, num=4, width=8):
    return [normalize(torch.randn(num, width, generator=torch.Generator().manual_seed(seed)), dim=-1) for seed in seeds]


def test_it_equals_the_formula_written_out():
    anchor, positive, negatives = rows(0, 1, 2)
    is_negative = torch.tensor([[True, False, True, True]] * 4)
    nats, wins = info_nce(anchor, positive, negatives, is_negative, 0.2)
    for row in range(4):
        pull = math.exp(anchor[row] @ positive[row] / 0.2)
        pushes = [math.exp(anchor[row] @ negatives[m] / 0.2) for m in range(4) if is_negative[row, m]]
        assert nats[row].item() == pytest.approx(-math.log(pull / (pull + sum(pushes))), rel=1e-5)
        assert bool(wins[row]) == (pull >= max(pushes))


def test_no_negatives_cost_nothing():
    anchor, positive, negatives = rows(0, 1, 2)
    nats, wins = info_nce(anchor, positive, negatives, torch.zeros(4, 4, dtype=torch.bool), 0.1)
    assert torch.equal(nats, torch.zeros(4)) and wins.all()


def test_equal_scores_cost_log_of_the_choices_and_the_order_does_not_matter():
    anchor = torch.ones(1, 2) / math.sqrt(2)
    nats, _ = info_nce(anchor, anchor, anchor.expand(7, 2), torch.ones(1, 7, dtype=torch.bool), 0.1)
    assert nats.item() == pytest.approx(math.log(8), rel=1e-5)
    anchor, positive, negatives = rows(3, 4, 5)
    everyone = torch.ones(4, 4, dtype=torch.bool)
    shuffled = negatives[torch.tensor([2, 0, 3, 1])]
    torch.testing.assert_close(
        info_nce(anchor, positive, negatives, everyone, 0.1)[0], info_nce(anchor, positive, shuffled, everyone, 0.1)[0]
    )


def test_the_gradient_pulls_to_the_positive_and_away_from_negatives():
    anchor, positive, negatives = rows(0, 1, 2)
    anchor.requires_grad_()
    info_nce(anchor, positive, negatives, torch.ones(4, 4, dtype=torch.bool), 0.1)[0].sum().backward()
    step = anchor - 1e-3 * anchor.grad
    assert ((step * positive).sum(-1) - (anchor * positive).sum(-1)).min() > 0
