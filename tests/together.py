"""What the processes of tests/test_distributed.py do: everything together, then the main one again by itself.

`main` is run by each process, with torchrun's variables; a failed assertion ends it with a traceback.
"""

import copy
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from cdcd_video.baselines.build import build_baseline
from cdcd_video.config import (
    BASELINES,
    CdcdContrastConfig,
    CodecConfig,
    ContrastConfig,
    DenoiserConfig,
    DiffusionConfig,
    FsqConfig,
    LossConfig,
    PictureConfig,
)
from cdcd_video.config.registries import STEP_TERMS
from cdcd_video.contrast_terms import Temperatures, heads_of
from cdcd_video.diffusion import process as processes
from cdcd_video.engine import checkpoint, distributed, optim, parallel, runtime
from cdcd_video.engine.loop import train
from cdcd_video.engine.optim import TrainSettings
from cdcd_video.errors import UserError
from cdcd_video.networks.clip.built_in import contrastive_loss
from cdcd_video.networks.codec.codec_loss import codec_objective, decoder_objective
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.networks.codec.perceptual import Critic, Picture
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.step_encoder import StepTextEncoder, step_encoder_objective
from cdcd_video.objective import diffusion_objective, with_own_source
from cdcd_video.records import CodePair, FrameAfter, FramePair, LossTerms, RowGenerator, TextStates, WrongSentences
from cdcd_video.training.step_draws import make_refine_draws, make_step_draws

LEVELS, PATCHES, GROUPS, NUM_CODES = (3, 2), 4, 2, 6
TOKENS, BATCH, JOINT = PATCHES * GROUPS, 10, 8
SIZES = DenoiserConfig(width=32, num_layers=2, num_heads=2)
DIFFUSION = DiffusionConfig(num_steps=4, full_share=0.3, source_jitter=0.5, caption_dropout=0.3)
CONTRAST = ContrastConfig(frame_frame=0.5, frame_text=0.5, shuffled=2, num_chunks=4, share=0.7, symmetric=True)
EVERY = ContrastConfig(share=0.7, extra=dict.fromkeys(STEP_TERMS, 0.5))
SETTINGS = TrainSettings(num_steps=4, learning_rate=1e-3, log_every=2, clip_norm=0.5, checkpoint_every_s=None)


NEAR = {"clip": 1e-12, "step": 3e-4}
"""How far weights may be apart after four steps of about 1e-3. In float32 Adam makes rounding of a tiny gradient a part of a
step; in float64 there is nothing to be seen."""


def generator(*parts: str | int) -> torch.Generator:
    return runtime.generator("together", *parts)


def codec() -> Codec:
    cfg = CodecConfig(
        layers=(0, 1),
        projection_width=8,
        groups=GROUPS,
        quantizer=FsqConfig(levels=LEVELS),
        decoder_width=32,
        decoder_layers=2,
        pixel_width=4,
        embed_width=32,
        frame_frame=0.3,
        frame_text=0.3,
    )
    torch.manual_seed(0)
    return Codec(cfg, clip_width=8, num_patches=PATCHES, joint_width=JOINT, size_px=16)


def uneven(model: nn.Module, seed: int = 1) -> nn.Module:
    """Fresh heads are zero, and zero hides mistakes."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=stream))
    return model


def code_pair(step: int) -> CodePair:
    """The whole batch of a step: clips and captions come more than once, some examples stand still or have no first frame."""
    stream = generator("codes", step)
    source, target, first, far, before = torch.randint(NUM_CODES, (5, BATCH, TOKENS), generator=stream)
    clip = torch.randint(5, (BATCH,), generator=stream)
    caption = torch.randint(4, (BATCH,), generator=stream)
    is_word = torch.arange(3) < 1 + torch.arange(BATCH)[:, None] % 3
    text = TextStates(
        torch.randn(4, 3, 8, generator=stream)[caption],
        is_word,
        normalize(torch.randn(4, JOINT, generator=stream), dim=-1)[caption],
    )
    target = torch.where(torch.rand(BATCH, 1, generator=stream) < 0.3, source, target)
    gap_s, age_s, before_gap_s = torch.rand(3, BATCH, generator=stream)
    has_first = torch.rand(BATCH, generator=stream) < 0.7
    wrong = WrongSentences(text.of_rows(torch.arange(BATCH).roll(1)), caption != caption.roll(1))
    after = FrameAfter(torch.randint(NUM_CODES, (BATCH, TOKENS), generator=stream), clip < 4)
    return CodePair(
        source, target, first, has_first, gap_s, age_s, text, clip, caption, far, before, before_gap_s,
        counterfactual=wrong, after=after,
    )  # fmt: skip


def own(record):
    """This process's rows of everything in a record."""
    if isinstance(record, Tensor):
        return distributed.own(record)
    if not is_dataclass(record):  # a number that all processes share
        return record
    return replace(record, **{field.name: own(getattr(record, field.name)) for field in fields(record)})


class OnCodes:
    """A task with any objective on code pairs."""

    batch_size = BATCH

    def __init__(self, name: str, model: nn.Module, pay: Callable[[CodePair, torch.Generator], LossTerms]):
        self.name, self.model, self.objective = name, model, pay

    def batch(self, step: int) -> CodePair:
        return own(code_pair(step))

    def evaluate(self) -> dict[str, float]:
        with torch.no_grad():
            return {"score": float(self.objective(code_pair(1000), generator("evaluate")).total)}


def denoising(name: str, loss: LossConfig, process: processes.InterpolatingProcess, own_share: float = 0.0) -> OnCodes:
    space = codec().requires_grad_(False)
    shape = dict(levels=LEVELS, table=space.table, num_patches=PATCHES, groups=GROUPS, text_width=8)
    torch.manual_seed(1)
    denoiser = uneven(Denoiser(SIZES, **shape))
    temperatures = Temperatures(loss.contrast) if loss.contrast.learn_temperature else None
    parts = {"denoiser": denoiser} | ({"temperatures": temperatures} if temperatures else {})
    heads, reference = heads_of(loss.contrast, denoiser, space), uneven(copy.deepcopy(denoiser)).requires_grad_(False)
    parts |= {"heads": heads} if len(heads) else {}

    def pay(batch: CodePair, stream: torch.Generator) -> LossTerms:
        if own_share:
            draws = make_refine_draws(batch, stream, distributed.collectives())
            batch = with_own_source(denoiser, process, batch, own_share, 0.5, draws)
        reduce = distributed.collectives()
        draws = make_step_draws(batch, DIFFUSION, loss, stream, reduce)
        given = dict(reduce=reduce, reference=reference, heads=heads)
        return diffusion_objective(denoiser, process, space, batch, draws, DIFFUSION, loss, temperatures, **given)

    return OnCodes(name, nn.ModuleDict(parts), pay)


def baseline(kind: str) -> OnCodes:
    space = codec()
    torch.manual_seed(2)
    shape = dict(levels=LEVELS, table=space.table, num_patches=PATCHES, groups=GROUPS, text_width=8)
    model = uneven(build_baseline(BASELINES[kind](), SIZES, **shape))

    def pay(batch: CodePair, stream: torch.Generator) -> LossTerms:
        rows = RowGenerator(stream, distributed.collectives())
        return model.learn(batch, DIFFUSION, LossConfig(), rows, own_share=0.5, temperature=0.7)

    return OnCodes(kind, model, pay)


def stepping() -> OnCodes:
    space = codec().requires_grad_(False)
    torch.manual_seed(3)
    encoder = uneven(StepTextEncoder(space.groups * space.table.shape[1], PATCHES, 8, 32))
    return OnCodes(
        "eye",
        encoder,
        lambda batch, stream: step_encoder_objective(encoder, space, batch, 0.2, distributed.collectives()),
    )


class OnFrames:
    """The codec's own training, with a CLIP that is a frozen linear map."""

    batch_size = BATCH

    def __init__(self, name: str):
        self.name, self.codec, self.picture = name, uneven(codec()), None
        self.model: nn.Module = self.codec
        if name != "codec":
            self.codec.requires_grad_(False).decoder.requires_grad_(True)
        if name == "critic":
            critic = uneven(Critic(4))
            self.model = nn.ModuleDict({"codec": self.codec, "critic": critic})
            self.picture = Picture(PictureConfig(adversarial=0.3), None, critic)
        self.map = torch.randn(3 * 64, 16 + JOINT, generator=generator("clip"))

    def batch(self, step: int) -> FramePair:
        stream = generator("frames", step)
        first, source, target = torch.rand(3, BATCH, 3, 16, 16, generator=stream)
        source[:, :, :8] = target[:, :, :8]  # two patches stand still
        target[::3, :, :4] = first[::3, :, :4]
        clip = torch.randint(5, (BATCH,), generator=stream)
        caption = torch.randint(4, (BATCH,), generator=stream)
        said = normalize(torch.randn(4, JOINT, generator=stream), dim=-1)[caption]
        return own(FramePair(first, source, target, clip, caption, said))

    def objective(self, batch: FramePair, stream: torch.Generator) -> LossTerms:
        pay = codec_objective if self.name == "codec" else decoder_objective
        return pay(
            self.codec, SimpleNamespace(encode_image=self._measure), batch, self.picture, distributed.collectives()
        )

    def _measure(self, frames: Tensor, layers: tuple[int, ...], grid: tuple[int, int]) -> SimpleNamespace:
        patches = frames.unflatten(2, (2, 8)).unflatten(4, (2, 8)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        states = patches @ self.map[:, :16]
        embedding = normalize((patches @ self.map[:, 16:]).mean(1), dim=-1)
        return SimpleNamespace(patches=states.chunk(2, -1), embedding=embedding)

    def evaluate(self) -> dict[str, float]:
        return {}


class Towers:
    """CLIP's loss between two linear towers, in float64: nothing hides behind rounding."""

    name, batch_size = "clip", BATCH

    def __init__(self):
        torch.manual_seed(4)
        self.model = nn.ModuleDict({"image": nn.Linear(6, JOINT), "text": nn.Linear(5, JOINT)})
        self.model.register_parameter("scale", nn.Parameter(torch.tensor(1.5)))
        self.model.double()

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        stream = generator("towers", step)
        caption = torch.randint(6, (BATCH,), generator=stream)
        image, text = (torch.randn(size, generator=stream).double() for size in ((BATCH, 6), (6, 5)))
        return tuple(map(distributed.own, (image, text[caption], caption)))

    def objective(self, batch: tuple[Tensor, Tensor, Tensor], stream: torch.Generator) -> LossTerms:
        image, text = (
            normalize(self.model[side](x), dim=-1) for side, x in zip(("image", "text"), batch, strict=False)
        )
        return contrastive_loss(image, text, self.model.scale.exp(), batch[2], distributed.collectives())

    def evaluate(self) -> dict[str, float]:
        return {}


def both(**changes) -> LossConfig:
    return LossConfig(contrast=CONTRAST.model_copy(update=changes))


CDCD = LossConfig(cdcd=CdcdContrastConfig(intra=0.01, inter=0.02, num_negatives=3, num_chunks=4))
TASKS: dict[str, Callable[[], OnCodes | OnFrames | Towers]] = {
    "diffusion": lambda: denoising("diffusion", both(), processes.hybrid(NUM_CODES, 0.4, 0.1)),
    "step": lambda: denoising("step", both(level="step", learn_temperature=True), processes.bridge(NUM_CODES, 0.1)),
    "few": lambda: denoising("few", both(share=0.15, symmetric=False), processes.mask(NUM_CODES)),
    "cdcd": lambda: denoising("cdcd", CDCD, processes.replace(NUM_CODES, 0.2)),
    "refine": lambda: denoising("refine", both(), processes.mask(NUM_CODES), own_share=0.6),
    "terms": lambda: denoising("terms", LossConfig(contrast=EVERY), processes.mask(NUM_CODES)),
    "gaussian": lambda: baseline("gaussian"),
    "categorical_flow": lambda: baseline("categorical_flow"),
    "autoregressive": lambda: baseline("autoregressive"),
    "eye": stepping,
    "codec": lambda: OnFrames("codec"),
    "decoder": lambda: OnFrames("decoder"),
    "critic": lambda: OnFrames("critic"),
    "clip": Towers,
}


# ------------------------------------------------------------------------------------------------------------- checks


def check_the_exchange() -> None:
    """Rows, gradients and agreements, against what they should be."""
    world = distributed.world()
    for num_rows in (7, 8, 1):
        whole = torch.randn(num_rows, 3, generator=generator("rows", num_rows), dtype=torch.float64)
        mine = distributed.own(whole).clone().requires_grad_()
        assert len(mine) == distributed.num_own(num_rows)
        found = distributed.all_gather(mine, num_rows)
        assert torch.equal(found, whole)
        weight = torch.arange(num_rows * 3.0, dtype=torch.float64).view(num_rows, 3)
        ((world.rank + 1) * weight * found**2).sum().backward()
        owed = sum(range(1, world.size + 1)) * weight * 2 * whole  # every process owes every row
        torch.testing.assert_close(mine.grad, distributed.own(owed), rtol=1e-12, atol=0)
    alike = torch.rand(2, 6, 3, generator=generator("drawn"))
    assert torch.equal(
        RowGenerator(generator("drawn"), distributed.collectives()).rand(2, 3, 3, dim=1), alike[:, world.rank :: 2]
    )
    assert distributed.all_max(world.rank, -world.rank) == (world.size - 1, 0)
    assert float(distributed.mean(torch.tensor(float(world.rank)))) == (world.size - 1) / 2
    if distributed.is_main():
        assert list(distributed.receive_from_others()) == [b"xxxx"]
    else:
        distributed.send_to_main(b"xxxx")
    with distributed.alone():
        assert distributed.all_max(5.0) == (5.0,) and len(distributed.own(torch.zeros(4))) == 4
    try:
        distributed.check_alike("the number", world.rank)
        raise AssertionError("nobody minded")
    except UserError as error:
        assert "the number is" in str(error) and "disk that all machines share" in str(error)
    try:
        distributed.by_main(lambda: (_ for _ in ()).throw(UserError("the disk is full")))
        raise AssertionError("nobody minded")
    except UserError as error:
        assert str(error) == ("the disk is full" if distributed.is_main() else "process 0 failed; see its own message")
    try:
        odd = TASKS["clip"]()
        odd.batch_size = 9
        parallel.Spread(odd, "ddp")
        raise AssertionError("nobody minded")
    except UserError as error:
        assert "batch_size 9 of clip cannot be split evenly among 2 processes; use a multiple of 2" in str(error)


def gradients_of(task, shard: str | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Values and whole gradients of one step; `shard` None: by oneself."""
    stream = generator("draws", task.name)
    spread = parallel.Spread(task, shard) if shard else task
    parameters = optim.trained_parameters(task.model)  # as an optimiser sees them: within a step FSDP2 shows others
    assert any(map(parallel.is_share, parameters.values())) == (shard == "fsdp")
    losses = spread.objective(spread.batch(3), stream)
    values = {**losses.parts, "total": losses.total.detach()}
    if losses.shares is not None:
        values |= losses.shares()
    values |= losses.groups
    losses.total.backward()
    if shard:
        values = distributed.means(values)
        parallel.clip_grad_norm(list(parameters.values()), float("inf"))  # which averages what is not cut
    values["next draw"] = torch.rand(1, generator=stream)
    grads = {name: parallel.whole(one.grad) for name, one in parameters.items() if one.grad is not None}
    return values, grads


def check_gradients(name: str, shard: str) -> float:
    """Every value and every parameter's gradient is the single process's; returns the largest relative deviation."""
    values, grads = gradients_of(TASKS[name](), shard)
    with distributed.alone():
        expected_values, expected = gradients_of(TASKS[name](), None)
    strip = {key.replace("model.", "", 1) if key not in expected else key: value for key, value in grads.items()}
    assert strip.keys() == expected.keys() and len(expected) > 2, (name, sorted(strip), sorted(expected))
    worst = 0.0
    for key, value in expected.items():
        size = max(float(value.abs().max()), 1e-6)
        worst = max(worst, float((strip[key] - value).abs().max()) / size)
    assert worst < 2e-5, (name, shard, worst)
    assert values.keys() == expected_values.keys()
    num_all = {key for key in expected_values if key.endswith("_decile")}
    for key, value in expected_values.items():
        found = values[key] * (distributed.world().size if key in num_all else 1)
        torch.testing.assert_close(
            found, value, rtol=2e-4, atol=1e-6, msg=lambda text, key=key: f"{name}: {key}: {text}"
        )
    assert sum(float(value.abs().max()) > 1e-7 for value in expected.values()) > len(expected) // 2, name
    return worst


def fit(name: str, out: Path, **changes):
    settings = replace(SETTINGS, **{key: value for key, value in changes.items() if key != "shard"})
    task = TASKS[name]()
    return train(task, settings, out, seed=0, identity={"what": name}, shard=changes.get("shard", "ddp")), task


def weights(out: Path, name: str, part: str = "ema") -> dict[str, Tensor]:
    return checkpoint.latest(out, name).tensors(part)


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def check_what_is_sent() -> None:
    """A step shows everybody what `tools.scaling` counts, and no more: source codes, embeddings, numbers of clips or captions."""
    sent, gather = [], distributed.dist.all_gather

    def counting(found, rows):
        sent.append(rows.nbytes * len(found))
        gather(found, rows)

    distributed.dist.all_gather = counting
    gradients_of(TASKS["diffusion"](), "ddp")
    distributed.dist.all_gather = gather
    padded = 8  # of the 7 rows that are judged, four here and three there
    assert sum(sent) == BATCH * TOKENS * 8 + 2 * padded * (2 * JOINT * 4 + 8), sent


def check_training(name: str, shard: str, out: Path, **changes) -> float:
    """A few steps together end where the same steps alone end, are logged once and alike, and can be taken up by fewer."""
    together, lone = out / f"{name}-{shard}", out / f"{name}-alone"
    result, task = fit(name, together, shard=shard, **changes)
    assert result.is_finished and result.checkpoint.name == "step-00000004"
    assert not any(parallel.is_share(one) for one in task.model.parameters())
    for key, value in weights(together, name, "model").items():
        assert torch.equal(task.model.state_dict()[key], value), key
    gap = 0.0
    if distributed.is_main():
        with distributed.alone():
            if not lone.exists():
                fit(name, lone, **changes)
        gap = max(apart(weights(together, name, part), weights(lone, name, part)) for part in ("ema", "model"))
        assert gap < NEAR[name], (name, shard, gap)
        lines = [[json.loads(line) for line in (at / "log.jsonl").read_text().splitlines()] for at in (together, lone)]
        assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]] == [2, 4, 4][: len(lines[0])]
        for one, other in zip(*lines, strict=True):
            for key in ("loss", "grad_norm", "param_norm", "update_norm"):
                assert (key in one) == (key in other)
                assert key not in one or abs(one[key] / other[key] - 1) < 2e-3, (name, shard, key, one[key], other[key])
    distributed.barrier()
    return gap


def check_resume(name: str, shard: str, out: Path) -> None:
    """Begun by two and gone on with by one, and the other way round."""
    first_two, first_one, lone = out / f"{name}-{shard}-2-1", out / f"{name}-{shard}-1-2", out / f"{name}-alone"
    half = {"max_minutes": 1e-9}
    for _ in range(2):
        fit(name, first_two, shard=shard, **half)
    if distributed.is_main():
        with distributed.alone():
            for _ in range(2):
                fit(name, first_one, **half)
            assert checkpoint.latest(first_two, name).step == checkpoint.latest(first_one, name).step == 2
            assert fit(name, first_two)[0].is_finished
    distributed.barrier()
    assert fit(name, first_one, shard=shard)[0].is_finished
    if distributed.is_main():
        for out_of in (first_two, first_one):
            for part in ("model", "ema", "optimizer"):
                assert apart(weights(out_of, name, part), weights(lone, name, part)) < NEAR[name], (shard, part, out_of)
    distributed.barrier()


def check_a_signal(out: Path) -> None:
    """One process is told to stop; both save and leave."""
    task = TASKS["clip"]()
    pay = task.objective

    def strike(batch, stream):
        if distributed.world().rank == 1 and task.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return pay(batch, stream)

    deal = task.batch

    def batch(step):
        task.step = step
        return deal(step)

    task.objective, task.batch = strike, batch
    try:
        train(task, SETTINGS, out, seed=0, identity={})
        raise AssertionError("nobody stopped")
    except SystemExit as left:
        assert left.code == 128 + signal.SIGTERM
    assert checkpoint.latest(out, "clip").step == 3


def check_bad_ends(out: Path) -> None:
    """A value that is no number stops all at once; data that one process cannot read stop all, and are saved before."""
    task = TASKS["clip"]()
    pay = task.objective

    def no_number(batch, stream):
        losses = pay(batch, stream)
        return replace(losses, total=losses.total * (float("nan") if distributed.world().rank == 1 else 1.0))

    task.objective = no_number
    try:
        train(task, SETTINGS, out / "nan", seed=0, identity={})
        raise AssertionError("nobody stopped")
    except UserError as error:
        assert "training clip stopped: loss is nan at step 1" in str(error), error
    task, said = TASKS["clip"](), ""
    deal = task.batch

    def unread(step):
        if step == 2 and distributed.world().rank == 1:
            raise FileNotFoundError(2, "No such file or directory", "clips.npy")
        return deal(step)

    task.batch = unread
    try:
        train(task, SETTINGS, out / "data", seed=0, identity={})
    except UserError as error:
        said = str(error)
    cause = (
        "cannot read or write clips.npy (no such file or directory)" if distributed.world().rank else distributed.LOST
    )
    assert f"training clip stopped at step 3: {cause}; the last good checkpoint is" in said, said
    assert "step-00000002" in said and checkpoint.latest(out / "data", "clip").step == 2


def all_checks(out: Path) -> None:
    torch.set_num_threads(1)
    with distributed.joined("cpu") as world:
        assert world.size == 2
        check_the_exchange()
        told = {}
        for name in TASKS:
            told[name] = check_gradients(name, "ddp")
        for name in ("diffusion", "step", "refine", "terms", "codec", "critic", "clip"):
            told[f"{name} fsdp"] = check_gradients(name, "fsdp")
        for shard in parallel.SHARDS:
            for name in NEAR:
                told[f"training {name} {shard}"] = check_training(name, shard, out)
                check_resume(name, shard, out)
        told["training clip accumulating"] = check_training("clip", "ddp", out / "accumulating", accumulate=2)
        check_what_is_sent()
        check_a_signal(out / "signal")
        check_bad_ends(out)
        if distributed.is_main():
            (out / "told.json").write_text(json.dumps(told, indent=1))
        a_death(out)


def a_death(out: Path) -> None:
    """Process 1 dies without a word in its third step; what the other says of it is looked at from outside."""
    task = TASKS["clip"]()
    deal = task.batch

    def batch(step):
        if step == 2 and distributed.world().rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return deal(step)

    task.batch = batch
    train(task, SETTINGS, out / "death", seed=0, identity={})


def main() -> None:
    all_checks(Path(sys.argv[1]))
