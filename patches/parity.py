"""Upstream's own functions, run from the user's own checkout, against ours: errors, tolerances, verdicts.

Every check builds small random inputs from a fixed seed, hands them to both sides and reports the largest error. `kept`
things must agree; where upstream has a quirk, a second row shows that the switch is what makes the difference.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cdcd_video.contrast.cdcd import CdcdWeights, Negatives, cdcd_loss
from cdcd_video.contrast.negatives import reordered, shifted
from cdcd_video.diffusion.categorical import truncate_logits
from cdcd_video.diffusion.upstream_quirks import RIGHT, UPSTREAM, Quirks
from cdcd_video.diffusion.vq_diffusion import cdcd_chain, cdcd_constants
from cdcd_video.engine.ema import Ema
from cdcd_video.tools.upstream.functions import DIFFUSION, DIFFUSION_AMP, Upstream
from cdcd_video.tools.upstream.upstream_loss import UpstreamLoss
from patches.arguments import Parser

SHAPES = {"small": (50, 20, 24), "long": (200, 80, 16)}
"""Codes K, steps S and tokens N of the worlds that the checks run in."""
BATCH = 6


@dataclass(frozen=True)
class Row:
    """One comparison. `error` must be at most `tolerance`, or, where `differs`, above it."""

    check: str
    what: str
    error: float
    tolerance: float
    differs: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the row is as it should be; never so for NaN."""
        return self.error > self.tolerance if self.differs else self.error <= self.tolerance


@dataclass(frozen=True)
class Case:
    """Random inputs of one world, in float64; `index` counts steps as upstream does, from 0."""

    num_codes: int
    num_steps: int
    x0: Tensor
    x_t: Tensor
    index: Tensor
    logits: Tensor
    share: Tensor
    intra: Tensor
    inter: Tensor

    @property
    def times(self) -> tuple[Tensor, Tensor]:
        """Our times (s, t)."""
        return self.index.double() / self.num_steps, (self.index + 1).double() / self.num_steps

    @property
    def posterior(self):
        """Our posteriors of the step."""
        return cdcd_chain(self.num_codes, self.num_steps).posterior(self.x_t, *self.times, self.x0)


def case(shape: str, seed: int = 0) -> Case:
    """Draws a world: first and last step among the times, a tenth of the tokens replaced by codes at random."""
    num_codes, num_steps, num_tokens = SHAPES[shape]
    rng = torch.Generator().manual_seed(seed)
    x0 = torch.randint(num_codes, (BATCH, num_tokens), generator=rng)
    index = torch.randint(num_steps, (BATCH,), generator=rng)
    index[0], index[1], index[2] = 0, num_steps - 1, 1
    chain = cdcd_chain(num_codes, num_steps)
    x_t = chain.sample(x0, (index + 1).double() / num_steps, x0, rng)
    is_planted = torch.rand(x0.shape, generator=rng) < 0.1
    x_t = torch.where(is_planted, torch.randint(num_codes, x0.shape, generator=rng), x_t)
    logits = 3 * torch.randn(BATCH, num_tokens, num_codes, generator=rng, dtype=torch.float64)
    share = torch.rand(BATCH, generator=rng, dtype=torch.float64) * 0.1 + 0.01
    intra, inter = torch.randint(num_codes, (2, BATCH, 10, num_tokens), generator=rng)
    intra[:, :, :4] = x0[:, None, :4]  # negatives that hold the truth here and there
    return Case(num_codes, num_steps, x0, x_t, index, logits, share, intra, inter)


def world(upstream: Upstream, inputs: Case, dtype: torch.dtype = torch.float64, **dials) -> UpstreamLoss:
    """Upstream's model for these inputs."""
    return UpstreamLoss(
        upstream,
        num_codes=inputs.num_codes,
        num_steps=inputs.num_steps,
        num_tokens=inputs.x0.shape[1],
        dtype=dtype,
        **dials,
    )


def away(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, as a share of the largest number."""
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())


def schedule(upstream: Upstream) -> Iterator[Row]:
    """Constants of the chain. Upstream takes b_t as a difference of nearly equal numbers: 1e-8 is all it has."""
    for file, quirks in ((DIFFUSION, RIGHT), (DIFFUSION_AMP, Quirks(uniform_over_mask=True))):
        namespace = upstream.symbols(file, ["alpha_schedule"])
        for num_codes, num_steps in ((2887, 80), (1024, 100)):
            theirs = namespace["alpha_schedule"](num_steps, N=num_codes + quirks.uniform_over_mask)
            at, bt, ct, att, btt, ctt = (torch.from_numpy(values) for values in theirs)
            ours = cdcd_constants(num_codes, num_steps, quirks)
            where = f"K {num_codes}, S {num_steps}"
            yield Row("schedule", f"keep, mask, {where}", max(away(ours.keep, at), away(ours.mask, ct)), 1e-12)
            yield Row("schedule", f"replace, {where}", away(ours.replace, bt), 1e-7)
            cumulative = [(ours.kept, att), (ours.replaced, btt), (ours.masked, ctt)]
            error = max(away(mine, value.roll(1)) for mine, value in cumulative)
            yield Row("schedule", f"cumulative, {where}", error, 1e-9)


def marginal(upstream: Upstream) -> Iterator[Row]:
    """q(x_t | x_0)."""
    for shape in SHAPES:
        inputs = case(shape)
        theirs = world(upstream, inputs)
        chain = cdcd_chain(inputs.num_codes, inputs.num_steps)
        ours = chain.log_marginal(inputs.x0, inputs.times[1], inputs.x0).exp()
        log_q = theirs.q_pred(theirs.log_one_hot(inputs.x0), inputs.index)
        yield Row("marginal", shape, away(ours, log_q.exp().transpose(1, 2)), 1e-9)


def one_step(upstream: Upstream) -> Iterator[Row]:
    """q(x_t | x_(t-1)), from our constants. Where x_(t-1) is [MASK], the mass on codes is e-30, ours is 0."""
    inputs = case("small")
    theirs = world(upstream, inputs)
    constants = cdcd_constants(inputs.num_codes, inputs.num_steps)
    keep, replace, mask = (
        getattr(constants, name)[inputs.index][:, None, None] for name in ("keep", "replace", "mask")
    )
    before = nn.functional.one_hot(inputs.x_t, inputs.num_codes + 1).double()
    was_mask = before[..., -1:]
    codes = before[..., :-1] * keep + replace * (1 - was_mask)
    ours = torch.cat((codes, was_mask + (1 - was_mask) * mask), -1)
    log_q = theirs.q_pred_one_timestep(theirs.log_one_hot(inputs.x_t), inputs.index).exp().transpose(1, 2)
    is_code = inputs.x_t < inputs.num_codes
    yield Row("one_step", "from codes", away(ours[is_code], log_q[is_code]), 1e-7)
    error = away(ours[~is_code][..., -1], log_q[~is_code][..., -1])
    yield Row("one_step", "from [MASK], mass on [MASK]", error, 1e-12)


def posterior(upstream: Upstream) -> Iterator[Row]:
    """q(x_(t-1) | x_t, x_0), and p(x_(t-1) | x_t) of a model."""
    for shape in SHAPES:
        inputs = case(shape)
        theirs, posterior = world(upstream, inputs), inputs.reverse
        log_x_t = theirs.log_one_hot(inputs.x_t)
        log_q = theirs.q_posterior(theirs.log_one_hot(inputs.x0), log_x_t, inputs.index)
        ours = posterior.log_posterior(inputs.x0).exp()
        yield Row("posterior", f"true, {shape}", away(ours, log_q.exp().transpose(1, 2)), 1e-9)
        log_p = theirs.p_pred(inputs.logits, log_x_t, inputs.index)
        ours = posterior.log_reverse(inputs.logits.log_softmax(-1)).exp()
        yield Row("posterior", f"model's, {shape}", away(ours, log_p.exp().transpose(1, 2)), 1e-9)


MODES: dict[str, tuple[dict, CdcdWeights, dict[str, str]]] = {
    "no contrast": ({}, CdcdWeights(), {}),
    "intra, step": (dict(intra_weight=5e-5, intra_mode="step"), CdcdWeights(), {"intra": "step"}),
    "intra, sample": (dict(intra_weight=5e-5, intra_mode="sample"), CdcdWeights(), {"intra": "sample"}),
    "inter, step": (dict(inter_weight=5e-6, inter_mode="step"), CdcdWeights(), {"inter": "step"}),
    "inter, sample": (dict(inter_weight=5e-6, inter_mode="sample"), CdcdWeights(), {"inter": "sample"}),
    "both, step and sample": (
        dict(intra_weight=5e-5, inter_weight=5e-6),
        CdcdWeights(),
        {"intra": "step", "inter": "sample"},
    ),
    "token weights 2 and 1/2": (
        dict(token_weight=(2.0, 0.5), intra_weight=5e-5),
        CdcdWeights(masked=2.0, visible=0.5),
        {"intra": "step"},
    ),
    "flat in time": (
        dict(adaptive=False, intra_weight=5e-5),
        CdcdWeights(auxiliary_time="flat", contrast_time="flat"),
        {"intra": "step"},
    ),
    "strong contrast": (dict(intra_weight=0.3), CdcdWeights(), {"intra": "step"}),
}
"""Upstream's dials, ours, and which negatives are used how."""
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def losses(upstream: Upstream, inputs: Case, mode: str, dtype: torch.dtype, quirks: Quirks) -> tuple[float, float]:
    """Errors of the loss per sample and of its gradient with respect to the logits, both relative to the largest."""
    dials, weights, used = MODES[mode]
    strength = {"intra": dials.get("intra_weight"), "inter": dials.get("inter_weight")}
    negatives = tuple(Negatives(getattr(inputs, kind), strength[kind], how) for kind, how in used.items())
    intra = inputs.intra if "intra" in used else None
    return compared(world(upstream, inputs, dtype, **dials), inputs, dtype, weights, negatives, quirks, intra)


def compared(
    theirs: UpstreamLoss,
    inputs: Case,
    dtype: torch.dtype,
    weights: CdcdWeights,
    negatives: tuple[Negatives, ...],
    quirks: Quirks,
    intra: Tensor | None = None,
) -> tuple[float, float]:
    """Both losses on the same inputs; see `losses`."""
    logits, share = inputs.logits.to(dtype).requires_grad_(), inputs.share.to(dtype)
    times = dict(t=inputs.index, share=share, x_t=inputs.x_t)
    per_sample = theirs.train_loss(logits, inputs.x0, **times, intra=intra, inter=inputs.inter)
    (per_sample.sum() / inputs.x0.numel()).backward()
    their_gradient, logits.grad = logits.grad, None
    ours = cdcd_loss(inputs.reverse, logits, inputs.x0, inputs.times[0], share, weights, negatives, quirks)
    ours.total.backward()
    return away(ours.per_sample, per_sample.detach()), away(logits.grad, their_gradient)


def loss(upstream: Upstream) -> Iterator[Row]:
    """The whole training loss: value and gradient, in every mode, in both precisions."""
    for dtype, tolerance in TOLERANCE.items():
        for shape in SHAPES:
            for mode in MODES:
                value, gradient = losses(upstream, case(shape), mode, dtype, UPSTREAM)
                name = f"{mode}, {shape}, {str(dtype).removeprefix('torch.')}"
                yield Row("loss", name, value, tolerance)
                yield Row("loss", f"{name}, gradient", gradient, tolerance)


def rising_auxiliary(upstream: Upstream) -> Iterator[Row]:
    """The copies in which the x_0 term's weight rises. Their chain's rows do not sum to 1, ours do: hence 1e-3."""
    inputs = case("long")
    theirs = world(upstream, inputs, file=DIFFUSION_AMP, auxiliary_weight=1.0)
    for time in ("rising", "falling"):
        weights = CdcdWeights(auxiliary=1.0, auxiliary_time=time)
        value, gradient = compared(theirs, inputs, torch.float64, weights, (), UPSTREAM)
        yield Row("rising_auxiliary", time, max(value, gradient), 1e-3, differs=time == "falling")


def quirks(upstream: Upstream) -> Iterator[Row]:
    """With a quirk switched off, ours is no longer upstream's: the switch is what makes the difference."""
    first = Quirks(**{**asdict(UPSTREAM), "first_step_unweighted": False})
    value, _ = losses(upstream, case("small"), "token weights 2 and 1/2", torch.float64, first)
    yield Row("quirks", "without first_step_unweighted", value, 1e-6, differs=True)
    truth = Quirks(**{**asdict(UPSTREAM), "punish_truth": False})
    _, gradient = losses(upstream, case("small"), "strong contrast", torch.float64, truth)
    yield Row("quirks", "without punish_truth, gradient", gradient, 1e-6, differs=True)


def negatives(upstream: Upstream) -> Iterator[Row]:
    """Chunks in another order: upstream's order is read off its answer, and ours must give the same codes."""
    for num_tokens in (64, 67):
        sample = upstream.symbols(DIFFUSION, ["neg_sampling"])["neg_sampling"]
        codes = torch.arange(num_tokens).repeat(2, 1)
        theirs, length = sample(codes, mode="random"), num_tokens // 8
        order = theirs[:, : 8 * length : length] // length
        ours = reordered(codes, order.unsqueeze(1), UPSTREAM).squeeze(1)
        yield Row("negatives", f"random, N {num_tokens}", float((ours != theirs).sum()), 0)
        theirs, ours = sample(codes, mode="shift"), shifted(codes, 8, UPSTREAM).squeeze(1)
        yield Row("negatives", f"shift, N {num_tokens}", float((ours != theirs).sum()), 0)
        right = shifted(codes, 8).squeeze(1)
        wrong = float((right != theirs).sum())
        yield Row("negatives", f"shift without quirks, N {num_tokens}", wrong, 0, differs=True)


def truncation(upstream: Upstream) -> Iterator[Row]:
    """Upstream's top-r is our top_p: the same codes are kept, and ours sum to 1."""
    method = upstream.symbols("synthesis/modeling/models/dalle.py", ["DALLE.predict_start_with_truncation"])
    log_p = case("long").logits.log_softmax(-1)
    for share in (0.5, 0.85, 0.99):
        truncated = method["predict_start_with_truncation"](None, lambda: log_p.transpose(1, 2), f"top{share}r")
        theirs = truncated().transpose(1, 2)
        theirs = theirs.masked_fill(theirs == -70, -torch.inf).log_softmax(-1)
        yield Row("truncation", f"top_p {share}", away(truncate_logits(log_p, top_p=share).exp(), theirs.exp()), 1e-12)


def ema(upstream: Upstream) -> Iterator[Row]:
    """One update of the averaged weights, late enough that our warm-up of the decay is over."""
    rng = torch.Generator().manual_seed(0)
    model = nn.Linear(4, 3)
    first, second = ([torch.randn(p.shape, generator=rng) for p in model.parameters()] for _ in range(2))
    _set(model, first)
    theirs, ours = upstream.symbols("synthesis/engine/ema.py", ["EMA"])["EMA"](model, decay=0.99), Ema(model, 0.99)
    _set(model, second)
    theirs.update(9999)
    ours.update(9999)
    error = max(away(ours.average[name], value) for name, value in theirs.state_dict().items())
    yield Row("ema", "one update", error, 1e-6)


def _set(model: nn.Module, values: list[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value)


CHECKS: dict[str, Callable[[Upstream], Iterator[Row]]] = {
    check.__name__: check
    for check in (
        schedule,
        marginal,
        one_step,
        posterior,
        loss,
        rising_auxiliary,
        quirks,
        negatives,
        truncation,
        ema,
    )
}
"""Every check by the name that `map.toml` gives it."""


def main(argv: list[str]) -> int:
    """`python -m patches parity`; returns 1 if a row is not met."""
    parser = Parser(prog="python -m patches parity", description=__doc__.splitlines()[0])
    parser.add_argument("--upstream", type=Path, required=True, metavar="DIR", help="a checkout of upstream CDCD")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"some of: {', '.join(CHECKS)}; default: all")
    args = parser.parse_args(argv)
    unknown = [name for name in args.checks if name not in CHECKS]
    if unknown:
        parser.error(f"unknown check {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    upstream = Upstream(args.upstream)
    if sentence := upstream.warning(DIFFUSION, DIFFUSION_AMP):
        print(f"warning: {sentence}")
    rows = []
    print(f"{'check':18} {'what':46} {'error':>9} {'tolerance':>10}")
    for name in args.checks or CHECKS:
        for row in CHECKS[name](upstream):
            rows.append(row)
            must = f"{'> ' if row.differs else ''}{row.tolerance:.0e}"
            print(f"{row.check:18} {row.what:46} {row.error:9.1e} {must:>10} {'' if row.is_met else '  MISSED'}")
    missed = [row for row in rows if not row.is_met]
    print(f"{len(rows)} comparisons, {len(missed)} missed")
    if args.json:
        args.json.write_text(json.dumps([{**asdict(row), "is_met": row.is_met} for row in rows], indent=2) + "\n")
    return 1 if missed else 0
