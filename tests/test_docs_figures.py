"""The figures on docs/diffusion.md, worked out anew."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from worlds import log_reverse

from cdcd_video.diffusion.loss import weighted_terms
from cdcd_video.diffusion.process import replace
from cdcd_video.diffusion.vq_diffusion import cdcd_chain

PAGE = " ".join((Path(__file__).resolve().parent.parent / "docs" / "diffusion.md").read_text(encoding="utf-8").split())
K, S = 2887, 80  # upstream's CUB shape


def masked() -> Tensor:
    """(S+1,) probability of [MASK] at the times 0, 1/S, ..., 1 of upstream's chain."""
    chain = cdcd_chain(K, S)
    return 1.0 - chain.kept - chain.uniform


def test_the_joint_counts_the_evidence_twice():
    process, x_t = replace(2, uniform=1.0), torch.tensor([[0]])
    s, t = torch.zeros(1), torch.tensor([0.5])
    evidence = torch.cat([process.log_marginal(torch.tensor([[j]]), t, x_t).exp()[..., :1] for j in (0, 1)], -1)
    bayes = evidence / evidence.sum()
    torch.testing.assert_close(bayes, torch.tensor([[[3 / 4, 1 / 4]]], dtype=torch.float64))
    torch.testing.assert_close(log_reverse(process, bayes.log(), x_t, s, t, x_t).exp()[..., :2], bayes)
    joint = bayes * evidence
    assert (joint / joint.sum())[0, 0, 0].item() == pytest.approx(9 / 10)
    assert "At s = 0 the sum above returns 3/4; eq. 4 makes it 9/10." in PAGE


def test_what_cdcds_chain_leaves_at_time_1():
    chain = cdcd_chain(K, S)
    kept, uniform = chain.kept[-1].item(), chain.uniform[-1].item()
    assert (chain.uniform[1:] == 1e-6).all() and kept + uniform == pytest.approx(1e-5)
    assert f"with probability {100 * (1 - (1 - kept - uniform) ** 1024):.2f} %" in PAGE
    # KL of the last marginal to [VQD eq. 10], which leaves out `kept` and is divided by what remains.
    q = torch.full((K + 1,), uniform / K, dtype=torch.float64)
    q[-1] = 1 - kept - uniform
    prior = q / q.sum()
    q[0] += kept
    nats = (q * (q / prior).log()).sum().item()
    assert f"{nats:.1e}".replace("e-0", "e-") + " nats per token (K = 2,887, S = 80)" in PAGE


def test_the_floor_of_the_contrast():
    """At upstream's steps 1, 20 and 79: the closed form, and what the fused loss says of a model that is sure and wrong."""
    chain, code = cdcd_chain(K, S), torch.tensor([[5]])
    x_t = torch.full_like(code, K)
    logits = torch.zeros(1, 1, K, dtype=torch.float64)
    logits[..., 7] = 1e4
    largest = []
    for step in (1, 20, 79):
        posterior = chain.posterior(x_t, torch.tensor([step / S]), torch.tensor([(step + 1) / S]), code)
        take, ratio = posterior.p_x0.item(), (chain.kept[step] * K / chain.uniform[step]).item()
        largest.append(take * math.log1p(ratio))
        ones = torch.ones(1, 1, 1)
        at_vertex = weighted_terms(posterior, logits, code.unsqueeze(-1), ones, 0 * ones).kl.item()
        assert at_vertex == pytest.approx(largest[-1], rel=1e-9)
        flat = weighted_terms(posterior, 0 * logits, code.unsqueeze(-1), ones, 0 * ones).kl.item()
        assert flat < at_vertex
    first, middle, last = largest
    assert f"{first:.1f} nats per masked token at its step 1, {middle:.2f} at step 20 and {last:.2f} at step 79" in PAGE


@pytest.mark.parametrize("skip", [1, 3, 7])
def test_what_shifting_the_time_leaves_masked(skip: int):
    """Upstream walks the steps 79, 78 - skip, ...; down to the last two each stay is that of one step, `skip` earlier."""
    steps = list(range(S - 1, -1, -1 - skip))
    steps += [0] if steps[-1] else []
    left = math.prod((masked()[step - skip] / masked()[step - skip + 1]).item() for step in steps[:-2])
    right = masked()[steps[-2] + 1].item()
    assert f"| {skip} | {len(steps)} | {100 * left:.1f} % | {100 * right:.1f} % |" in PAGE
