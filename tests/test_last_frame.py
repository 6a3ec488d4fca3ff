"""A last frame beside the first: what the denoiser reads of it, how examples and roll-outs get it, and whether it is learned."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from fixtures_model import write_model
from test_denoiser import GROUPS, LEVELS, NUM_CODES, PATCHES, TOKENS, changed, condition
from test_objective import PLAIN
from test_roll_out import Counting
from test_stages import FakeCache

from cdcd_video import ImageToVideo, SamplingWarning, UserError
from cdcd_video.config import Config, DenoiserConfig, DiffusionConfig, SamplingParams, SpritesData, config_file
from cdcd_video.config.fingerprint import identity_text
from cdcd_video.data.pairs import sample_last, sample_pairs
from cdcd_video.data.shots import Shots
from cdcd_video.diffusion import process as processes
from cdcd_video.model import build_denoiser
from cdcd_video.networks.codec.frame_codec import CodeSpace
from cdcd_video.networks.codec.quantizer import FiniteScalarQuantizer
from cdcd_video.networks.conditioning import of_rows, with_empty_captions
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.step_inputs import conditions_before
from cdcd_video.objective import diffusion_objective
from cdcd_video.records import CodePair, LastFrame, TextStates
from cdcd_video.sampling import latent_pipeline
from cdcd_video.sampling.call_inputs import call_inputs
from cdcd_video.sampling.captions import CaptionSchedule
from cdcd_video.sampling.roll_out import roll_out
from cdcd_video.training.code_stages import DiffusionStage
from cdcd_video.training.initial_weights import begin_with
from cdcd_video.training.step_draws import make_step_draws

CAPTION = "the red circle moves right"
ROOT = Path(__file__).resolve().parent.parent


def denoiser(takes_last: bool = True, levels: tuple[int, ...] = LEVELS) -> Denoiser:
    """With fresh weights, the same every time."""
    torch.manual_seed(0)
    cfg = DenoiserConfig(width=32, num_layers=2, num_heads=2)
    table = FiniteScalarQuantizer(levels).table
    shape = dict(levels=levels, table=table, num_patches=PATCHES, groups=GROUPS, text_width=8)
    return Denoiser(cfg, **shape, takes_last=takes_last).eval()


def loud(model: Denoiser) -> Denoiser:
    """With weights at random, since a fresh one is silent about the last frame."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def last_frame(seed: int, is_there: bool = True) -> LastFrame:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(NUM_CODES, (3, TOKENS), generator=generator)
    return LastFrame(codes, torch.full((3,), is_there), torch.rand(3, generator=generator))


def logits(model: Denoiser, given, t: float = 1.0) -> torch.Tensor:
    return model(torch.full((3, TOKENS), model.mask_id), torch.full((3,), t), given)


# The network ------------------------------------------------------------------------------------------------------


def test_without_it_there_is_no_weight_more_and_with_it_all_others_are_the_same():
    without, with_it = denoiser(False).state_dict(), denoiser(True).state_dict()
    added = with_it.keys() - without.keys()
    assert added and all(name.startswith("last_in.") for name in added)
    assert all(torch.equal(with_it[name], value) for name, value in without.items())
    assert all((with_it[name] == 0).all() for name in added)


@pytest.mark.parametrize("levels", [LEVELS, (6,)], ids=["digits", "no digits"])
def test_it_begins_as_the_denoiser_without_it(levels: tuple[int, ...]):
    without, with_it = loud(denoiser(False, levels)), denoiser(True, levels)
    with_it.load_state_dict(without.state_dict(), strict=False)
    for given in (condition(), changed(condition(), last=last_frame(1))):
        assert torch.equal(logits(with_it, given), logits(without, condition()))


@pytest.mark.parametrize("levels", [LEVELS, (6,)], ids=["digits", "no digits"])
@pytest.mark.parametrize("name", ["codes", "is_there", "until_s"])
def test_everything_about_it_matters(levels: tuple[int, ...], name: str):
    model, last = loud(denoiser(True, levels)), last_frame(1)
    other = replace(last, **{name: getattr(last_frame(2, is_there=False), name)})
    one, two = (logits(model, changed(condition(), last=given)) for given in (last, other))
    assert (one - two).abs().max() > 1e-3


@pytest.mark.parametrize("levels", [LEVELS, (6,)], ids=["digits", "no digits"])
def test_one_that_is_withheld_has_no_effect_and_is_as_none(levels: tuple[int, ...]):
    model = loud(denoiser(True, levels))
    found = [logits(model, changed(condition(), last=last_frame(seed, is_there=False))) for seed in (1, 2)]
    assert torch.equal(*found) and torch.equal(found[0], logits(model, condition()))


def test_one_for_a_denoiser_that_reads_none_is_refused():
    with pytest.raises(AssertionError, match="takes_last"):
        logits(denoiser(False), changed(condition(), last=last_frame(1)))


def test_rows_and_guidance_carry_it():
    given = changed(condition(), last=last_frame(1))
    assert torch.equal(of_rows(given, slice(1, 3)).last.codes, given.last.codes[1:])
    twice = with_empty_captions(given).last
    for name in ("codes", "is_there", "until_s"):
        assert torch.equal(getattr(twice, name), torch.cat([getattr(given.last, name)] * 2))


# Examples ---------------------------------------------------------------------------------------------------------


def test_a_last_frame_lies_after_its_target_within_the_shot():
    shots = Shots.of([16, 9, 2], [(5,), (), ()])
    rng = np.random.default_rng(0)
    pairs = sample_pairs(shots, 4000, rng, max_gap=4, start_share=0.3)
    last, is_there = sample_last(pairs, 0.5, rng)
    room = pairs.end - pairs.target
    assert (last[room > 0] > pairs.target[room > 0]).all() and (last <= pairs.end).all()
    assert (last == pairs.target)[room == 0].all() and not is_there[room == 0].any()
    assert 0.45 < is_there[room > 0].mean() < 0.55
    far = room >= 4
    assert {1, 2, 3, 4} <= set((last - pairs.target)[far]) and (last == pairs.end)[far].any()


def stage(last_share: float) -> DiffusionStage:
    config = Config(name="test", data=SpritesData(), diffusion=DiffusionConfig(last_share=last_share))
    cache, model = FakeCache(), denoiser(last_share > 0)
    return DiffusionStage(model, Mock(CodeSpace), processes.mask(NUM_CODES), config, cache, cache, torch.device("cpu"))


def test_examples_have_the_codes_of_a_later_frame_and_are_otherwise_the_same():
    plain, batch = stage(0.0).batch(3), stage(0.5).batch(3)
    assert plain.last is None
    for name in ("source", "target", "first", "has_first", "gap_s", "age_s", "caption", "before"):
        assert torch.equal(getattr(plain, name), getattr(batch, name)), name
    frames = (batch.last.until_s * 8).round().long()
    assert torch.equal((batch.target[:, 0] + frames) % NUM_CODES, batch.last.codes[:, 0])
    assert (frames >= 1)[batch.last.is_there].all() and 0 < batch.last.is_there.float().mean() < 1


def test_frames_before_the_source_are_farther_from_it():
    batch = replace(stage(0.5).batch(1), generations=3)
    conditions = conditions_before(batch, 3)
    ahead_s = batch.before_gap_s * torch.tensor([2 / 3, 1 / 3, 0.0])[:, None]  # from each one's target to the source
    for given, rest_s in zip(conditions, ahead_s, strict=True):
        torch.testing.assert_close(given.last.until_s, batch.last.until_s + batch.gap_s + rest_s)
        assert given.last.codes is batch.last.codes


def test_the_schema_keeps_identities_and_refuses_a_baseline():
    assert "last_share" not in identity_text(DiffusionConfig()) and "last_share" in identity_text(
        DiffusionConfig(last_share=0.3)
    )
    with pytest.raises(UserError, match="baseline gaussian takes no last frame; set it to 0"):
        config_file.load(
            ROOT / "configs/sprites.yaml", Config, ["diffusion.last_share=0.3", "baseline={kind: gaussian}"]
        )
    assert config_file.load(ROOT / "configs/sprites_more.yaml", Config).diffusion.last_share == 0.2


def test_what_only_the_last_frame_says_is_learned():
    """Codes are random, so that nothing but the last frame, which equals the target, says what comes next."""
    model, process = denoiser(True).train(), processes.mask(NUM_CODES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    cfg, losses = DiffusionConfig(), {True: [], False: []}
    for step in range(60):
        generator = torch.Generator().manual_seed(step)
        source, target = torch.randint(NUM_CODES, (2, 16, TOKENS), generator=generator)
        text = TextStates(torch.zeros(16, 2, 8), torch.ones(16, 2).bool(), torch.zeros(16, 4))
        second, is_there = torch.full((16,), 0.125), torch.arange(16) % 2 == 0
        batch = CodePair(
            source, target, source, is_there, second, second, text, torch.arange(16), torch.arange(16), source, source, second
        )  # fmt: skip
        for has_last in (True, False):
            given = replace(batch, last=LastFrame(target, torch.full((16,), has_last), second))
            draws = make_step_draws(given, cfg, PLAIN, torch.Generator().manual_seed(step))
            loss = diffusion_objective(model, process, None, given, draws, cfg, PLAIN)
            loss.total.backward()
            losses[has_last].append(float(loss.parts["auxiliary"]))
        optimizer.step()
        optimizer.zero_grad()
    with_it, without = (np.mean(losses[has_last][-10:]) for has_last in (True, False))
    assert losses[True][0] == pytest.approx(losses[False][0]), "a fresh one says nothing"
    assert with_it < 0.3 * np.log(NUM_CODES) < 0.8 * np.log(NUM_CODES) < without


# Sampling ---------------------------------------------------------------------------------------------------------


def rolled(last: torch.Tensor | None, **settings) -> tuple[list[list[int]], list]:
    way, start = Counting(), torch.zeros(2, 1, dtype=torch.long)
    ones = torch.ones(2, 1)
    text = TextStates(ones[..., None], ones.bool(), ones)
    schedules = [CaptionSchedule.of("a")] * 2
    frames = roll_out(way, start, schedules, lambda sentences: text, SamplingParams(**settings), [], last=last)
    return [frame.to_decode[:, 0].tolist() for frame in frames], [given.last for given in way.conditions]


def test_every_frame_knows_how_far_away_the_last_one_is():
    last = torch.tensor([[7], [9]])
    frames, given = rolled(last, num_frames=5, fps=8, lookback_s=0.25)
    assert frames == [[0, 0], [1, 1], [2, 2], [3, 3], [7, 9]], "the last is given and not sampled"
    assert [one.until_s.tolist() for one in given] == [[0.375] * 2, [0.25] * 2, [0.125] * 2]
    assert all(one.codes is last and one.is_there.all() for one in given)
    assert rolled(None, num_frames=3, fps=8)[1] == [None, None]


def test_hidden_instants_before_the_last_frame_are_sampled_too():
    frames, given = rolled(torch.tensor([[7], [9]]), num_frames=3, fps=1, longest_gap_s=0.5)
    assert frames == [[0, 0], [2, 2], [7, 9]]
    assert [float(one.until_s[0]) for one in given] == [1.5, 1.0, 0.5]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> ImageToVideo:
    """A model that takes last frames, with weights at random."""
    folder = write_model(tmp_path_factory.mktemp("ends"), "diffusion.last_share=0.3")
    made = ImageToVideo.from_pretrained(folder, "cpu")
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in made.model.denoiser.last_in.parameters():
            parameter.normal_(std=0.5)
    return made


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def test_both_ends_are_the_given_pictures_and_steer_what_lies_between(pipe: ImageToVideo, pictures: np.ndarray):
    first, last, other = pictures
    videos = [pipe(first, CAPTION, last_image=end, num_frames=5, seed=1) for end in (last, last, other)]
    for video, end in zip(videos, (last, last, other), strict=True):
        assert (video[0] == first).all() and (video[-1] == end).all() and len(video) == 5
    assert (videos[0].frames == videos[1].frames).all()
    assert (videos[0].frames[1:-1] != videos[2].frames[1:-1]).mean() > 0.1


def test_several_have_the_bits_of_single_calls(pipe: ImageToVideo, pictures: np.ndarray):
    first, last, other = pictures
    how = dict(num_frames=4, num_steps=2, guidance=2.0)
    together = pipe([first, other], CAPTION, last_image=[last, first], seed=[3, 4], **how)
    shared = pipe([first, other], CAPTION, last_image=last, seed=[3, 4], **how)
    alone = [
        pipe(image, CAPTION, last_image=end, seed=seed, **how)
        for image, end, seed in ((first, last, 3), (other, first, 4), (other, last, 4))
    ]
    for one, many in zip(alone, (*together, shared[1]), strict=True):
        assert np.array_equal(one.frames, many.frames)


def test_a_stream_ends_in_it_and_so_do_latents(
    pipe: ImageToVideo, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    whole = pipe(pictures[0], CAPTION, last_image=pictures[1], num_frames=7)
    monkeypatch.setattr(latent_pipeline, "DECODE_BATCH", 3)
    parts = list(pipe.stream(pictures[0], CAPTION, pipe.defaults(num_frames=7), last_image=pictures[1]))
    assert [len(part) for part in parts] == [3, 3, 1] and (np.concatenate(parts) == whole.frames).all()
    latents = pipe(pictures[0], CAPTION, last_image=pictures[1], num_frames=3, output_type="latent").frames
    assert torch.equal(latents[:, -1], pipe.encode(pictures[1][None]))


def test_the_callback_is_for_sampled_frames(pipe: ImageToVideo, pictures: np.ndarray):
    numbers = []
    pipe(
        pictures[0],
        CAPTION,
        last_image=pictures[1],
        num_frames=4,
        callback_on_step_end=lambda pipe, step, frame, given: numbers.append(frame) or given,
    )
    assert numbers == [1, 2]


def test_two_frames_are_the_two_pictures(pipe: ImageToVideo, pictures: np.ndarray):
    video = pipe(pictures[0], CAPTION, last_image=pictures[1], num_frames=2)
    assert (video.frames == pictures[:2]).all()


def test_what_cannot_be_is_said_in_one_sentence(pipe: ImageToVideo, tiny_model: Path, pictures: np.ndarray):
    first, last, _ = pictures
    with pytest.raises(
        UserError, match="model tiny was not trained with last frames; leave the last frame out, or train"
    ):
        ImageToVideo.from_pretrained(tiny_model, "cpu")(first, CAPTION, last_image=last)
    with pytest.raises(UserError, match="at least 2 frames; raise num_frames"):
        pipe(first, CAPTION, last_image=last, num_frames=1)
    with pytest.raises(UserError, match="2 images and 3 last images; give as many of each, or one for all"):
        pipe([first, last], CAPTION, last_image=list(pictures))
    with pytest.raises(UserError, match="place in the list of last images is empty"):
        call_inputs([first, last], CAPTION, last=[first, None])
    with pytest.raises(TypeError, match="did you mean 'last_image'"):
        pipe(first, CAPTION, end_image=last)
    with pytest.warns(SamplingWarning, match="comes 1.25 s after the first, and the clips .* have 0.875 s"):
        pipe(first, CAPTION, last_image=last, num_frames=11)


def test_a_model_without_it_is_trained_further_with_it(tiny_model: Path, pipe: ImageToVideo):
    fresh = build_denoiser(pipe.model.config, pipe.model.codec, pipe.model.clip.text_width)
    message = begin_with(str(tiny_model), "diffusion", fresh)
    assert "anew begin last_in." in message
    assert all((value == 0).all() for value in fresh.last_in.parameters())
