"""Temperature, top-p, top-k and guidance; upstream's truncation is our top-p."""

import numpy as np
import pytest
import torch
from worlds import log_reverse

from cdcd_video.diffusion.categorical import guided, sample_categorical, truncate_logits
from cdcd_video.diffusion.vq_diffusion import cdcd_chain


def test_truncation_keeps_the_smallest_set_and_normalises():
    p = torch.tensor([0.1, 0.4, 0.2, 0.3])
    log_p = p.log()
    for how, kept in (
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_p": 0.39}, [0, 1, 0, 0]),
        ({"top_p": 0.41}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.89}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_p": 1e-9}, [0, 1, 0, 0]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 9}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_p": 0.89, "top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"temperature": 0.0}, [0, 1, 0, 0]),
        ({"temperature": 1e-40}, [0, 1, 0, 0]),
        ({"temperature": 1e-38}, [0, 1, 0, 0]),
        ({"temperature": 1e-29}, [0, 1, 0, 0]),
        ({"temperature": 0.5}, (p.square() / p.square().sum()).tolist()),
    ):
        torch.testing.assert_close(truncate_logits(log_p + 3, **how).exp(), torch.tensor(kept, dtype=torch.float32))
    nan = float("nan")
    for wrong in ({"temperature": -1.0}, {"temperature": nan}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1}):
        with pytest.raises(ValueError, match="top_p"):
            truncate_logits(log_p, **wrong)


def test_top_k_keeps_exactly_k_even_among_equals():
    kept = truncate_logits(torch.zeros(3, 7), top_k=4).isfinite()
    assert kept.sum(-1).tolist() == [4, 4, 4]
    logits = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    kept = truncate_logits(logits, top_k=6).isfinite()
    lowest_kept = logits.masked_fill(~kept, torch.inf).amin(-1)
    assert (kept.sum(-1) == 6).all() and (logits.masked_fill(kept, -torch.inf).amax(-1) < lowest_kept).all()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_codes_of_16_bit_logits_are_sampled_and_truncated_as_in_float32(kind):
    """Among 2,000 equal codes a sum in bfloat16 stops growing early on: two codes in three were never sampled."""
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    p = torch.full((2_000,), 1 / 2_000, dtype=kind)
    codes = sample_categorical(p.expand(20_000, -1), uniform)
    assert torch.equal(codes, sample_categorical(p.float().expand(20_000, -1), uniform))
    assert len(codes.unique()) == 2_000
    logits, other = torch.randn(2, 3, 2_000, generator=torch.Generator().manual_seed(1)).to(kind)
    assert torch.equal(truncate_logits(logits, 0.7, top_p=0.9), truncate_logits(logits.float(), 0.7, top_p=0.9))
    assert torch.equal(guided(logits, other, 2.0), guided(logits.float(), other.float(), 2.0))


def test_guidance_interpolates_and_exaggerates():
    c, u = torch.tensor([2.0, 0.0, 1.0]), torch.tensor([0.0, 0.5, 3.0])
    torch.testing.assert_close(guided(c, u, 1.0), c.log_softmax(-1))
    torch.testing.assert_close(guided(c + 7, u - 2, 0.0), u.log_softmax(-1))
    torch.testing.assert_close(guided(c, u, 3.0), (u + 3 * (c - u)).log_softmax(-1))


# --------------------------------------------------------------------------------------------- against upstream's numbers


@pytest.fixture
def upstream(shared_dir) -> dict[str, torch.Tensor]:
    with np.load(shared_dir / "fixtures" / "sampler.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def times(index):
    """Upstream's step t goes from level t + 1 to t of 20."""
    return index.double() / 20, (index + 1).double() / 20


@pytest.mark.shared
@pytest.mark.parametrize("rate", ["0.5", "0.85", "0.99"])
def test_upstreams_top_r_is_top_p(upstream, rate):
    """The kept sets are equal; theirs is not normalised, which is gone from the posterior once that is."""
    theirs = upstream[f"out.top{rate}r_log_pred_f64"].transpose(1, 2)[..., :50].double()
    ours = truncate_logits(upstream["in.logits"].double(), top_p=float(rate))
    is_kept = theirs > -69.9
    assert 0 < is_kept.double().mean() < 1
    assert torch.equal(ours.isfinite(), is_kept)
    mass = torch.where(is_kept, theirs.exp(), 0.0)
    torch.testing.assert_close(ours.exp(), mass / mass.sum(-1, keepdim=True), rtol=1e-5, atol=1e-9)

    s, t = times(upstream["in.t"])
    x_t = upstream["in.xt"]
    posterior = upstream[f"out.top{rate}r_posterior_f64"].transpose(1, 2).double().exp()
    total = posterior.sum(-1, keepdim=True)
    assert (total < 0.999).any()
    p = log_reverse(cdcd_chain(50, 20), ours, x_t, s, t, torch.zeros_like(x_t)).exp()
    torch.testing.assert_close(p, posterior / total, rtol=0, atol=1e-5)


@pytest.mark.shared
@pytest.mark.parametrize("skip", [1, 3])
def test_upstreams_skipping_is_the_step_of_another_time(upstream, skip):
    """Its posterior at step t is that of step t - skip, not that of the jump; ours is the jump's own."""
    index, x_t, chain = upstream["in.t"], upstream["in.xt"], cdcd_chain(50, 20)
    log_p0 = upstream["in.logits"].double().log_softmax(-1)
    theirs = upstream[f"out.fast{skip}_posterior_f64"].transpose(1, 2).double().exp()
    source = torch.zeros_like(x_t)
    read = torch.where(index > skip, index - skip, index)
    p = log_reverse(chain, log_p0, x_t, *times(read), source).exp()
    torch.testing.assert_close(p, theirs, rtol=0, atol=1e-5)
    late = index > skip
    (_, t), (s, _) = times(index[late]), times(index[late] - skip)
    jump = log_reverse(chain, log_p0[late], x_t[late], s, t, source[late]).exp()
    left, left_by_upstream = (p[:, :8, 50].mean(-1) for p in (jump, theirs[late]))  # the first eight are masked
    step = index[late].double()
    torch.testing.assert_close(left, (step - skip - 1) / step, rtol=0, atol=1e-3)
    torch.testing.assert_close(left_by_upstream, (step - skip - 1) / (step - skip), rtol=0, atol=1e-3)
