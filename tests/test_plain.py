"""The plain reference against enumeration and against numbers from running upstream."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cdcd_video.contrast.cdcd import CdcdWeights, Negatives, cdcd_loss
from cdcd_video.diffusion.upstream_quirks import UPSTREAM
from cdcd_video.diffusion.vq_diffusion import cdcd_chain
from cdcd_video.tools.upstream.plain_loss import (
    PlainChain,
    PlainContrast,
    log_one_hot,
    plain_chain,
    plain_loss,
)

WEIGHTS = {"intra": 5e-5, "inter": 5e-6}
MODES = (
    "none",
    *("intra_step10", "intra_sample10", "inter_sample10", "inter_step10"),
    *("intra_step10_maskw", "inter_sample10_nonadaptive", "both_step_noaux"),
)


def fixture(folder: Path, name: str) -> dict[str, Tensor]:
    with np.load(folder / "fixtures" / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def loss_of(mode: str, world: dict[str, Tensor], logits: Tensor) -> Tensor:
    """(B,): the mode's loss of a fixture's inputs."""
    kinds = ("intra", "inter") if mode.startswith("both") else [kind for kind in WEIGHTS if mode.startswith(kind)]
    level = "sample" if "sample" in mode else "step"
    return plain_loss(
        plain_chain(int(world["in.K"]), int(world["in.T"]), logits.dtype),
        logits,
        *(world[f"in.{name}"].long() for name in ("x0", "xt")),
        world["in.t"] + 1,
        world["in.pt"].to(logits.dtype),
        [PlainContrast(world[f"in.neg_{kind}"].long(), WEIGHTS[kind], level) for kind in kinds],
        auxiliary_weight=0.0 if "noaux" in mode else 5e-4,
        adaptive="nonadaptive" not in mode,
        token_weight=(2.0, 0.5) if "maskw" in mode else (1.0, 1.0),
    )


def matrices(chain: PlainChain) -> Tensor:
    """(S + 1, K + 1, K + 1): q(x_i = column | x_(i-1) = row); the identity at i = 0."""
    codes = chain.num_codes
    keep, uniform, mask = chain.log_step.exp()[..., None, None]
    step = torch.zeros(len(keep), codes + 1, codes + 1, dtype=keep.dtype)
    step[:, :codes, :codes] = keep * torch.eye(codes, dtype=keep.dtype) + uniform
    step[:, :codes, codes:] = mask
    step[:, codes, codes] = 1.0
    return step


def test_marginal_and_posterior_are_the_matrix_products_and_bayes():
    chain = plain_chain(num_codes=3, num_steps=4)
    steps = matrices(chain)
    torch.testing.assert_close(steps.sum(-1), torch.ones(5, 4, dtype=torch.float64))
    p0 = torch.tensor([0.5, 0.2, 0.3, 0.0], dtype=torch.float64)
    log_p0 = p0.clamp(min=1e-30).log()[None, :, None].expand(1, 4, 4)
    states = torch.arange(4)[None]  # every x_t at once, one per token
    for i in range(1, 5):
        index = torch.tensor([i])
        before, until = torch.linalg.multi_dot([*steps[:i], torch.eye(4).double()]), torch.eye(4).double()
        until = before @ steps[i]
        torch.testing.assert_close(chain.marginal(log_p0, index)[0, :, 0].exp(), p0 @ until, atol=1e-12, rtol=0)
        for x_t in range(4):
            given = before * steps[i][:, x_t] / until[:, x_t : x_t + 1].clamp(min=1e-300)  # q(x_(i-1) | x_t, x_0)
            expected = p0 @ given
            found = chain.posterior(log_p0, states, index)[0, :, x_t].exp()
            torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_sample_follows_the_marginal():
    chain = plain_chain(num_codes=3, num_steps=4)
    x0, index = torch.zeros(1, 200_000, dtype=torch.long), torch.tensor([2])
    drawn = chain.sample(x0, index, torch.Generator().manual_seed(0))
    share = torch.bincount(drawn[0], minlength=4) / drawn.numel()
    expected = chain.marginal(log_one_hot(x0[:, :1], 3, torch.float64), index)[0, :, 0].exp()
    # Four standard errors of a share near 1/2.
    torch.testing.assert_close(share.double(), expected, atol=4 * 0.5 / 200_000**0.5, rtol=0)


@pytest.mark.shared
def test_schedule_is_upstreams(shared_dir: Path):
    given = fixture(shared_dir, "schedule")
    for num_steps, num_codes in given["in.TN"].tolist():
        chain, key = plain_chain(num_codes, num_steps), f"out.T{num_steps}_N{num_codes}"
        for place, name in enumerate("abc"):
            expected = given[f"{key}_{name}t"]
            # Upstream's b is what is left of 1 - a - c and has nine digits at most.
            tolerance = 1e-8 if name == "b" else 1e-9
            torch.testing.assert_close(chain.log_step[place, 1:].exp(), expected, rtol=tolerance, atol=0)
            after = given[f"{key}_{name}tt"].roll(1)  # its last entry is "before the first step"
            torch.testing.assert_close(chain.log_total[place].exp(), after, rtol=tolerance, atol=0)


@pytest.mark.shared
def test_distributions_are_upstreams(shared_dir: Path):
    given = fixture(shared_dir, "q")
    num_codes = int(given["in.K"])
    chain = plain_chain(num_codes, int(given["in.T"]))
    x0, x_t, index = given["in.x0"], given["in.xt"], given["in.t"] + 1
    one_hot, log_p0 = log_one_hot(x0, num_codes, torch.float64), given["out.predict_start_f64"]
    found = {
        "q_pred_onehot": chain.marginal(one_hot, given["in.t_qpred"] + 1),
        "q_pred_soft": chain.marginal(log_p0, given["in.t_qpred"] + 1),
        "q_posterior_true": chain.posterior(one_hot, x_t, index),
        "q_posterior_model": chain.posterior(log_p0, x_t, index),
    }
    for name, log_q in found.items():
        torch.testing.assert_close(log_q.exp(), given[f"out.{name}_f64"].exp(), rtol=1e-9, atol=1e-14, msg=name)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["loss_k50", "loss_k2887"])
@pytest.mark.parametrize("mode", MODES)
def test_loss_and_gradient_are_upstreams(shared_dir: Path, name: str, mode: str):
    given = fixture(shared_dir, name)
    logits = given["in.logits"].double().requires_grad_()
    per_sample = loss_of(mode, given, logits)
    torch.testing.assert_close(per_sample, given[f"out.{mode}.vb_loss_f64"], rtol=1e-9, atol=0)
    loss = per_sample.sum() / given["in.x0"].numel()
    torch.testing.assert_close(loss, given[f"out.{mode}.loss_f64"], rtol=1e-9, atol=0)
    if f"out.{mode}.grad_logits_f64" in given:
        loss.backward()
        expected = given[f"out.{mode}.grad_logits_f64"].double()  # computed in float64, stored in float32
        torch.testing.assert_close(logits.grad, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.shared
def test_loss_in_single_precision(shared_dir: Path):
    given = fixture(shared_dir, "loss_k50")
    found = loss_of("intra_step10", given, given["in.logits"].float())
    torch.testing.assert_close(found.double(), given["out.intra_step10.vb_loss_f64"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("mode", ["step", "sample"])
def test_the_fast_loss_is_the_plain_one(mode: str):
    """On draws of its own, at every step of the chain, with negatives that hold the truth here and there."""
    generator = torch.Generator().manual_seed(0)
    steps, codes = 6, 7
    chain, plain = cdcd_chain(codes, steps), plain_chain(codes, steps)
    index = torch.arange(1, steps + 1).repeat(3)
    x0 = torch.randint(codes, (len(index), 20), generator=generator)
    x_t = plain.sample(x0, index, generator)
    x_t[:, :3] = torch.randint(
        codes, (len(index), 3), generator=generator
    )  # replaced, which the chain hardly ever does
    negatives = torch.randint(codes, (len(index), 5, 20), generator=generator)
    logits = 3 * torch.randn(*x0.shape, codes, generator=generator, dtype=torch.float64)
    share = torch.rand(len(index), generator=generator, dtype=torch.float64) + 0.1

    slow = logits.clone().requires_grad_()
    contrasts = [PlainContrast(negatives, 0.01, mode)]
    expected = plain_loss(plain, slow, x0, x_t, index, share, contrasts, token_weight=(1.5, 0.5))
    (expected.sum() / x0.numel()).backward()
    fast = logits.clone().requires_grad_()
    s, t = (index - 1).double() / steps, index.double() / steps
    found = cdcd_loss(
        chain.posterior(x_t, s, t, x0),
        fast,
        x0,
        s,
        share,
        CdcdWeights(masked=1.5, visible=0.5),
        (Negatives(negatives, 0.01, mode),),
        UPSTREAM,
    )
    found.total.backward()
    # The uniform mass of 1e-6 is what 1 - kept - masked leaves in one, and given in the other: ten digits are the same.
    torch.testing.assert_close(found.per_sample, expected.detach(), rtol=1e-8, atol=0)
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-7, atol=1e-9)
