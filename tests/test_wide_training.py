"""Training on frames of several shapes as buckets: batches, resuming, the model that comes out, and what it makes of pictures."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import shapes
import torch
from fixtures_model import ROOT, trained_config
from safetensors.torch import load_file

from cdcd_video import ImageToVideo, SamplingWarning, UserError
from cdcd_video.config import Config, config_file
from cdcd_video.data.buckets import BucketedClips, buckets_of, sampled_bucket, size_of, spread
from cdcd_video.engine import checkpoint
from cdcd_video.model import build_denoiser
from cdcd_video.records import CodePair, RowGenerator, TextStates
from cdcd_video.tools.dry_run import explain
from cdcd_video.tools.dry_run.trial_clips import look_at_data
from cdcd_video.training import training_data
from cdcd_video.training.code_stages import DiffusionStage
from cdcd_video.training.training_run import TrainingRun

SIZES = [(32, 32), (32, 48), (48, 32)]
WIDE = ("data.sizes=[32x32, 32x48, 48x32]", "data.num_val_clips=9", "denoiser.rotary=true")
STEPS = dict(clip=4, codec=6, decoder=3, diffusion=9, refine=3)
SHORT = [
    f"train.{stage}.{what}" for stage, steps in STEPS.items() for what in (f"num_steps={steps}", "checkpoint_every=3")
]
CAPTION = "the red circle moves right"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> TrainingRun:
    found = TrainingRun(trained_config(*SHORT, *WIDE), tmp_path_factory.mktemp("wide") / "run", ["test"])
    with shapes.unchecked():
        found.train()
    return found


@pytest.fixture(scope="module")
def pipe(run: TrainingRun) -> ImageToVideo:
    return ImageToVideo.from_pretrained(run.out, "cpu")


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


# ----------------------------------------------------------------------------------------------------------- buckets


def test_every_clip_belongs_to_one_bucket():
    clips = training_data.open_clips(trained_config(*WIDE), "train")
    assert isinstance(clips, BucketedClips) and len(clips) == 32
    assert [size_of(bucket) for bucket in clips.buckets] == SIZES and [len(one) for one in clips.buckets] == [
        11,
        11,
        10,
    ]
    names = [clips.name(number) for number in range(32)]
    assert sorted(names) == [f"sprites-0-train-{number:06d}" for number in range(32)]
    for number, (place, own) in {0: (0, 0), 10: (0, 10), 11: (1, 0), 31: (2, 9)}.items():
        bucket = clips.buckets[place]
        assert clips.caption(number) == bucket.caption(own) and clips.captions(number) == bucket.captions(own)
        assert (clips.frames(number, [0, 3]) == bucket.frames(own, [0, 3])).all() and clips.cuts(number) == ()
    with pytest.raises(IndexError, match="clip 32 of 32"):
        clips.frames(32, [0])
    other = training_data.open_clips(trained_config("data.sizes=[32x32, 48x32]"), "train")
    assert (
        clips.digest() != other.digest()
        and clips.digest() == training_data.open_clips(trained_config(*WIDE), "train").digest()
    )
    assert [(size_of(bucket), numbers) for bucket, numbers in spread(clips, 4)] == [
        ((32, 32), [0]),
        ((32, 48), [0]),
        ((48, 32), [0, 1]),
    ]


def test_a_single_size_samples_nothing_and_several_in_proportion_to_their_clips():
    one, other = np.random.default_rng(0), np.random.default_rng(0)
    assert sampled_bucket([range(5)], one) == 0 and one.random() == other.random(), "older runs keep their batches"
    found = [sampled_bucket([range(10), range(30), range(60)], one) for _ in range(3000)]
    assert np.bincount(found) / 3000 == pytest.approx([0.1, 0.3, 0.6], abs=0.03)
    plain = training_data.open_clips(trained_config(), "train")
    assert buckets_of(plain) == (plain,)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("data.sizes=[32x36]", "frames of 32x36 px are no whole number of patches of 8 px; use multiples of 8"),
        ("data.sizes=[32x32, 32x32]", "a size is named twice"),
        ("data.sizes=[wide]", "'wide' is no size; give height x width in px, such as 64x96"),
        ("data.sizes=[8x64]", "greater than or equal to 16|at least 16"),
        ("data.sizes=[]", "at least 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(change: str, sentence: str):
    with pytest.raises(UserError, match=sentence):
        trained_config(change)


def test_too_few_clips_for_their_sizes_are_refused():
    with pytest.raises(UserError, match="2 val clips cannot have 3 sizes"):
        training_data.open_clips(trained_config(*WIDE, "data.num_val_clips=2"), "val")


# ---------------------------------------------------------------------------------------------------------- training


def test_every_batch_is_of_one_size_and_the_same_again(run: TrainingRun):
    made = []
    run._fit = lambda task, *given, **identity: made.append(task)
    run._save = lambda *given: None
    try:
        run._train_codec(), run._train_diffusion()
    finally:
        del run._fit, run._save
    codec, diffusion = made
    sizes = {tuple(codec.batch(step).target.shape[-2:]) for step in range(20)}
    assert sizes == set(SIZES)
    assert isinstance(diffusion, DiffusionStage)
    found = set()
    for step in range(20):
        batch, again = diffusion.batch(step), diffusion.batch(step)
        rows, columns = batch.grid or (4, 4)
        assert batch.source.shape[1] == batch.far.shape[1] == 2 * rows * columns
        assert torch.equal(batch.target, again.target) and batch.grid == again.grid
        found.add((rows, columns))
    assert found == {(4, 4), (4, 6), (6, 4)}


@pytest.mark.parametrize("stage", ["codec", "diffusion", "refine"])
def test_a_run_that_was_cut_goes_on_to_the_same_bits(run: TrainingRun, tmp_path: Path, stage: str):
    cut = TrainingRun(run.config, tmp_path / "cut", ["test"])
    shutil.copytree(run.out, cut.out, dirs_exist_ok=True)
    for other in list(STEPS)[list(STEPS).index(stage) + 1 :]:
        shutil.rmtree(checkpoint.home(cut.out, other), ignore_errors=True)
    last = checkpoint.newest(run.out, stage)
    assert last is not None and last.step == STEPS[stage]
    if stage == "refine":
        shutil.rmtree(checkpoint.home(cut.out, stage))
    else:
        shutil.rmtree(checkpoint.newest(cut.out, stage).folder)
    with shapes.unchecked():
        cut.train()
    for part in ("model", "ema", "optimizer"):
        one, other = (
            load_file(checkpoint.newest(out, "refine").folder / f"{part}.safetensors") for out in (run.out, cut.out)
        )
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one), part
    assert (run.folder / "codec.safetensors").read_bytes() == (cut.folder / "codec.safetensors").read_bytes()


def test_sheets_and_cards_show_every_size(run: TrainingRun):
    assert (run.out / "samples" / "validation.png").is_file() and (run.folder / "sample.webp").is_file()
    card = (run.folder / "README.md").read_text()
    assert "Frames are 32 x 32 or 32 x 48 or 48 x 32 pixels (height x width)." in card


def test_the_dry_run_of_the_config_says_what_the_largest_frames_cost():
    config = config_file.load(ROOT / "configs" / "sprites_wide.yaml", Config)
    assert config.data.sizes == ((64, 64), (64, 96), (96, 64))
    small = ["data.num_clips=30", "data.num_val_clips=9"]
    with shapes.unchecked():
        text = explain(config_file.load(ROOT / "configs" / "sprites_wide.yaml", Config, small))
    assert "the clips have 3 sizes" in text and "64x96, have 1.5 times as many patches" in text


def test_the_dry_run_counts_the_codes_of_every_size():
    names = ("data.num_clips=30", "data.num_val_clips=9")
    few = [
        config_file.load(ROOT / "configs" / "sprites_wide.yaml", Config, (*names, *more))
        for more in ((), ("data.sizes=null",))
    ]
    wide, square = (look_at_data(config) for config in few)
    assert square.relative_area == 1.0 and wide.relative_area == pytest.approx(
        4 / 3, abs=0.01
    )  # a third of the clips are squares


# ---------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("size", SIZES)
def test_a_video_has_the_size_of_its_picture(pipe: ImageToVideo, size: tuple[int, int]):
    image = picture(*size)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SamplingWarning) if pipe.model.start.least_db is None else None
        video = pipe(image, CAPTION, num_frames=3)
    assert video.frames.shape == (3, *size, 3) and (video.frames[0] == image).all()
    doubled = pipe(image.repeat(2, 0).repeat(2, 1), CAPTION, num_frames=2)
    assert doubled.frames.shape == (2, *size, 3)
    again = pipe(image, CAPTION, num_frames=3)
    assert (again.frames == video.frames).all()


def test_a_shape_that_was_not_trained_is_said_and_never_cut_without_a_word(pipe: ImageToVideo):
    trained = "the model was trained on 32x32, 32x48 or 48x32"
    image = picture(40, 32)
    with pytest.warns(
        SamplingWarning, match=f"the image has 40x32 px .height x width., and {trained}: the video has 40x32"
    ):
        video = pipe(image, CAPTION, num_frames=2)
    assert (video.frames[0] == image).all(), "another grid of patches keeps its shape"
    with pytest.warns(SamplingWarning, match=r"at 32x48 48 % of it is cut off; set fit to letterbox to keep all of it"):
        assert pipe(picture(34, 98), CAPTION, num_frames=2).frames.shape == (2, 32, 48, 3)
    with pytest.warns(SamplingWarning, match="at 48x32 17 % of it is cut off"):
        assert pipe(image, CAPTION, num_frames=2, fit="crop").frames.shape == (2, 48, 32, 3)
    with pytest.warns(SamplingWarning, match="at 32x48 black bars fill 47 % of the frames"):
        boxed = pipe(picture(34, 98), CAPTION, num_frames=2, fit="letterbox")
    assert boxed.frames.shape == (2, 32, 48, 3) and (boxed.frames[0][:7] == 0).all() and boxed.frames[0][16].any()
    with pytest.raises(UserError, match="set fit to crop or letterbox, or give an image of such a shape"):
        pipe(image, CAPTION, num_frames=2, fit="exact")


@pytest.mark.filterwarnings("ignore::cdcd_video.SamplingWarning")
def test_pictures_of_several_sizes_in_one_call(pipe: ImageToVideo):
    images = [picture(32, 48), picture(48, 32), picture(32, 48) // 2]
    videos = pipe(images, CAPTION, num_frames=3, seed=[0, 1, 2])
    for seed, (image, video) in enumerate(zip(images, videos, strict=True)):
        assert (pipe(image, CAPTION, num_frames=3, seed=seed).frames == video.frames).all()
    with pytest.raises(UserError, match="frames of 32x48 and 48x32 px, and output_type np puts them into one array"):
        pipe(images, CAPTION, num_frames=3, output_type="np")
    assert pipe(images[::2], CAPTION, num_frames=3, output_type="np").frames.shape == (2, 3, 32, 48, 3)


@pytest.mark.filterwarnings("ignore::cdcd_video.SamplingWarning")
def test_the_caller_may_name_the_size_and_a_record_keeps_it(pipe: ImageToVideo, tmp_path: Path):
    image = picture(64, 64)
    video = pipe(image, CAPTION, num_frames=2, height=32, width=48, fit="letterbox")
    assert video.frames.shape == (2, 32, 48, 3) and (video.frames[0][:, :8] == 0).all()
    odd = pipe(picture(40, 32), CAPTION, num_frames=2)
    for number, one in enumerate((video, odd)):
        one.save(tmp_path / f"{number}.webp")
        assert (pipe.sample_again(tmp_path / f"{number}.webp").frames == one.frames).all()
    for height, width in ((32, None), (32, 36), (0, 32)):
        with pytest.raises(UserError, match="give both as multiples of 8, such as 32x32, 32x48 or 48x32"):
            pipe(image, CAPTION, height=height, width=width)


@pytest.mark.filterwarnings("ignore::cdcd_video.SamplingWarning")
def test_a_stream_gives_the_same_frames(pipe: ImageToVideo):
    image = picture(48, 32)
    params = pipe.defaults(num_frames=3)
    streamed = np.concatenate(list(pipe.stream(image, CAPTION, params)))
    assert (streamed == pipe(image, CAPTION, num_frames=3).frames).all()


# --------------------------------------------------------------------------------------------------------- baselines


@pytest.mark.parametrize("kind", ["autoregressive", "gaussian", "categorical_flow"])
@pytest.mark.filterwarnings("ignore::cdcd_video.SamplingWarning")
def test_baselines_are_trained_on_every_size(kind: str, tmp_path: Path):
    steps = [f"train.{stage}.num_steps=3" for stage in STEPS] + ["data.num_frames=3", "sample.num_frames=2"]
    steps += ["data.num_val_clips=3"]
    alone = ("loss.contrast.frame_frame=0", "loss.contrast.frame_text=0", f"baseline.kind={kind}", "denoiser.width=64")
    made = TrainingRun(trained_config(*SHORT, *WIDE, *steps, *alone), tmp_path / kind, ["test"])
    with shapes.unchecked():
        made.train()
    pipe = ImageToVideo.from_pretrained(made.out, "cpu")
    assert pipe.model.config.baseline is not None and pipe.sizes.trained == tuple(SIZES)
    for size in SIZES:
        video = pipe(picture(*size), CAPTION, num_frames=3, seed=1)
        assert video.frames.shape == (3, *size, 3) and (video.frames[0] == picture(*size)).all()
        assert (pipe(picture(*size), CAPTION, num_frames=3, seed=1).frames == video.frames).all()
    images = [picture(32, 48), picture(48, 32)]
    for one, alone_again in zip(pipe(images, CAPTION, num_frames=2, seed=3), images, strict=True):
        assert (one.frames == pipe(alone_again, CAPTION, num_frames=2, seed=3).frames).all()


@pytest.mark.parametrize("kind", ["autoregressive", "gaussian", "categorical_flow"])
def test_a_baseline_reads_the_grid_of_its_frames(kind: str, run: TrainingRun):
    """A wide frame and a high one have as many patches, so only the grid tells them apart."""
    alone = ("loss.contrast.frame_frame=0", "loss.contrast.frame_text=0", f"baseline.kind={kind}", "denoiser.width=64")
    config = trained_config(*WIDE, *alone)
    codec = ImageToVideo.from_pretrained(run.out, "cpu").model.codec
    torch.manual_seed(0)
    network = build_denoiser(config, codec, config.clip.text_width)
    for weight in network.parameters():  # heads that begin at zero would hide what comes before them
        torch.nn.init.normal_(weight, std=0.3)
    codes = torch.randint(codec.num_codes, (3, 48), generator=torch.Generator().manual_seed(1))
    text = TextStates(torch.randn(3, 4, config.clip.text_width), torch.ones(3, 4, dtype=torch.bool), torch.randn(3, 16))
    ones = torch.ones(3)

    def loss(grid: tuple[int, int], codes: torch.Tensor) -> float:
        whole = dict.fromkeys(("source", "first", "far", "before"), codes) | {"target": codes.roll(1, 1), "text": text}
        whole |= dict.fromkeys(("gap_s", "age_s", "before_gap_s"), ones) | {
            "has_first": torch.ones(3, dtype=torch.bool)
        }
        pair = CodePair(**whole, clip=torch.arange(3), caption=torch.arange(3), grid=grid)
        rows = RowGenerator(torch.Generator().manual_seed(0))
        return float(network.learn(pair, config.diffusion, config.loss, rows).total.detach())

    assert loss((4, 6), codes) != loss((6, 4), codes) and loss((4, 6), codes) == loss((4, 6), codes)
    square = codes[:, :32]
    assert loss((4, 4), square) == loss(None, square), "the square grid is the network's own"
