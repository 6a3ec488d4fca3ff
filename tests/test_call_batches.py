"""Several videos in one call: the bits of single calls, seeds, generators; the callback; images of every form; `Video`."""

import html
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import cdcd_video
from cdcd_video import ImageToVideo, UserError, Video, pipeline, sampled_video
from cdcd_video.config import SamplingParams
from cdcd_video.sampling import latent_pipeline
from cdcd_video.sampling.call_inputs import call_inputs
from cdcd_video.sampling.call_names import names_of
from cdcd_video.sampling.start_images import pixels

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("red-circle", "square-and-star", "white-triangle")
IMAGES = [ROOT / "examples" / f"{name}.png" for name in NAMES]
PROMPTS = [
    "the red circle moves right",
    "the blue square moves up and the large yellow star stays still",
    [(0, "the white triangle circles"), (2, "the white triangle moves down")],
]


@pytest.fixture(scope="module")
def pipe(tiny_model: Path) -> ImageToVideo:
    return ImageToVideo.from_pretrained(tiny_model, "cpu")


# ------------------------------------------------------------------------------------------------------------ batches


@pytest.mark.parametrize("model", ["sprites", "tiny"])
def test_a_list_has_the_bits_of_single_calls(model: str, pipe: ImageToVideo, monkeypatch: pytest.MonkeyPatch):
    pipe = ImageToVideo.from_pretrained("sprites", "cpu") if model == "sprites" else pipe
    settings = dict(num_frames=4, num_steps=2, guidance=2.0)
    negatives = ["the red circle moves left", None, "the white triangle stays still"]
    together = pipe(IMAGES, PROMPTS, negative_prompt=negatives, seed=[5, 6, 7], **settings)
    alone = [
        pipe(image, prompt, negative_prompt=negative, seed=seed, **settings)
        for image, prompt, negative, seed in zip(IMAGES, PROMPTS, negatives, [5, 6, 7], strict=True)
    ]
    monkeypatch.setattr(pipeline, "MOST_AT_ONCE", 2)
    apart = pipe(IMAGES, PROMPTS, negative_prompt=negatives, seed=[5, 6, 7], **settings)
    for one, *others in zip(alone, together, apart, strict=True):
        assert all(np.array_equal(one, other) and one.settings == other.settings for other in others)


def test_latents_are_those_that_are_decoded(pipe: ImageToVideo):
    latents = pipe(IMAGES[:2], PROMPTS[0], output_type="latent", num_frames=3).frames
    videos = pipe(IMAGES[:2], PROMPTS[0], num_frames=3)
    starts = np.stack([video[0] for video in videos])
    decoded = pipe.decode(latents, starts)
    decoded[:, 0] = starts
    assert np.array_equal(decoded, np.stack(videos))
    for layout, scale in (("np", 255), ("pt", 255)):
        frames = torch.as_tensor(pipe(IMAGES[:2], PROMPTS[0], output_type=layout, num_frames=3)[0])
        frames = frames.permute(0, 1, 3, 4, 2) if layout == "pt" else frames
        assert np.array_equal((frames * scale).round().byte().numpy(), decoded)


def seeds_of(**given) -> list[int]:
    return call_inputs(np.zeros((4, 4, 3), np.uint8), **given).seeds


def test_which_seed_a_video_has():
    assert seeds_of(text="a") == [0] and seeds_of(text="a", default_seed=9) == [9]
    assert seeds_of(text=["a", "b"], seed=4) == [4, 4]
    assert seeds_of(text=["a", "b"], seed=4, num_videos_per_prompt=2) == [4, 5, 4, 5]
    assert seeds_of(text=["a", "b"], seed=[9, 7, 5, 3], num_videos_per_prompt=2) == [9, 7, 5, 3]
    assert seeds_of(text="a", seed=range(3)) == [0, 1, 2]
    made = call_inputs(np.zeros((4, 4, 3), np.uint8), ["a", "b"], ["c", None], num_videos_per_prompt=2)
    assert [schedule.turns[0][1] for schedule in made.captions] == ["a", "a", "b", "b"]
    assert made.negatives == ["c", "c", "", ""] and made.is_list


def test_a_generator_gives_seeds_by_the_documented_formula():
    def fresh(seed: int = 3) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    def formula(generator: torch.Generator) -> int:
        return int(torch.randint(2**63 - 1, (), generator=generator))

    one = fresh()
    wanted = [formula(one) for _ in range(3)]
    assert seeds_of(text=["a", "b", "c"], generator=fresh()) == wanted
    goes_on = fresh()
    assert [seeds_of(text="a", generator=goes_on)[0] for _ in range(3)] == wanted
    assert seeds_of(text="a", generator=[fresh(), fresh(4)]) == [wanted[0], formula(fresh(4))]


def test_a_video_of_a_generator_comes_again_by_its_seed(pipe: ImageToVideo):
    first = pipe(IMAGES[0], PROMPTS[0], generator=torch.Generator().manual_seed(1), num_frames=3, temperature=1.0)
    again = pipe(IMAGES[0], PROMPTS[0], seed=first.settings["seed"], num_frames=3, temperature=1.0)
    assert np.array_equal(first, again) and first.settings == again.settings


def test_one_prompt_in_parts_is_no_list_and_a_list_of_one_is():
    image, parts = np.zeros((4, 4, 3), np.uint8), [(0, "a"), (4, "b")]
    assert not call_inputs(image, parts).is_list and call_inputs(image, [parts]).is_list
    assert len(call_inputs(image, [parts, "c"]).captions) == 2
    assert call_inputs([image], "a").is_list and call_inputs(image[None], "a").is_list


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(seed=1.5), "seed is 1.5; it must be a whole number"),
        (dict(seed=torch.Generator()), "give it as generator="),
        (dict(seed=[]), "the list of seeds is empty"),
        (dict(num_videos_per_prompt=0), "num_videos_per_prompt is 0"),
        (dict(negative=5), "the negative prompt is of the type int"),
        (dict(negative=["a", "b"], text=["a", "b", "c"]), "3 prompts and 2 negative prompts"),
        (dict(text=7), "the prompt is of the type int"),
        (dict(text=["a", None]), "no prompt is given"),
    ],
)
def test_what_cannot_be_spread_is_a_sentence(given: dict, words: str):
    with pytest.raises(UserError, match=re.escape(words)):
        seeds_of(**{"text": "a", **given})


# ----------------------------------------------------------------------------------------------------------- callback

LOOK = dict(num_frames=4, num_steps=2, temperature=1.0)


@pytest.mark.parametrize("decoded", ["sampled", "expected"])
def test_what_is_returned_unchanged_changes_no_bit(decoded: str, pipe: ImageToVideo):
    def in_place(pipe, step, frame, given):
        given["latents"].zero_()  # and does not return it

    settings = dict(decoded=decoded, **LOOK)
    plain = pipe(IMAGES[0], PROMPTS[0], **settings)
    for callback in (lambda *given: given[-1], lambda *_: {}, lambda *_: None, in_place):
        assert np.array_equal(plain, pipe(IMAGES[0], PROMPTS[0], callback_on_step_end=callback, **settings))


def test_returned_latents_are_decoded_and_followed(pipe: ImageToVideo, monkeypatch: pytest.MonkeyPatch):
    sources, next_frame = [], pipe.sampler.next_frame

    def noting(condition, *others):
        sources.append(condition.source)
        return next_frame(condition, *others)

    monkeypatch.setattr(pipe.sampler, "next_frame", noting)

    def second_is_zero(pipe, step, frame, given):
        return {"latents": torch.zeros_like(given["latents"])} if frame == 2 else given

    given = dict(callback_on_step_end=second_is_zero, **LOOK)
    codes = pipe(IMAGES[0], PROMPTS[0], output_type="latent", **given).frames
    assert (codes[0, 2] == 0).all() and (codes[0, 1] != 0).any()
    assert torch.equal(sources[2], codes[:, 2]) and torch.equal(sources[1], codes[:, 1])
    video = pipe(IMAGES[0], PROMPTS[0], **given)
    assert np.array_equal(pipe.decode(codes, video[0][None])[0, 1:], np.asarray(video[1:]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(callback_on_step_end=5), "is of the type int; give a function"),
        (dict(callback_on_step_end=lambda *_: 5), "returned int; return a dictionary"),
        (
            dict(callback_on_step_end=lambda *_: {"latents": torch.zeros(1)}),
            "are (1,) of torch.float32, and must be (1, ",
        ),
        (dict(callback_on_step_end=lambda *given: {"latents": given[-1]["latents"] - 10**6}), "are no codes"),
        (
            dict(callback_on_step_end=print, callback_on_step_end_tensor_inputs=["prompt_embeds"]),
            "can be given latents, not 'prompt_embeds'",
        ),
    ],
)
def test_what_a_callback_cannot_do_is_a_sentence(given: dict, words: str, pipe: ImageToVideo):
    from shapes import unchecked

    with unchecked(), pytest.raises(UserError, match=re.escape(words)):
        pipe(IMAGES[0], PROMPTS[0], **given, **LOOK)


def test_every_sampling_parameter_is_an_argument_of_a_call():
    arguments = names_of(ImageToVideo.__call__)
    assert [name for name in SamplingParams.model_fields if name not in arguments] == []


# ---------------------------------------------------------------------------------------------------- precision, device


def test_a_precision_that_the_device_chose_is_chosen_anew_and_another_stays(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
):
    chosen, given = (
        ImageToVideo.from_pretrained(tiny_model, "cpu"),
        ImageToVideo.from_pretrained(tiny_model, "cpu", dtype=torch.float32),
    )
    monkeypatch.setattr(latent_pipeline, "for_sampling", lambda device: "bf16")  # as on a GPU
    assert chosen.to("cpu").dtype is torch.bfloat16 and given.to("cpu").dtype is torch.float32
    assert chosen.to(torch.float32).to("cpu").dtype is torch.float32, "what was said once holds"
    assert {parameter.dtype for parameter in chosen.model.denoiser.parameters()} == {torch.float32}


# --------------------------------------------------------------------------------------------------------------- images


def forms(frame: np.ndarray) -> dict[str, object]:
    buffer = io.BytesIO()
    PIL.Image.fromarray(frame).save(buffer, "PNG")
    tensor = torch.from_numpy(frame).permute(2, 0, 1)
    return {
        "bytes": buffer.getvalue(),
        "a view of bytes": memoryview(buffer.getvalue()),
        "an open file": io.BytesIO(buffer.getvalue()),
        "pillow": PIL.Image.fromarray(frame),
        "floats": frame / 255,
        "floats of 32 bits": frame.astype(np.float32) / 255,
        "floats of 16 bits": (frame / 255).astype(np.float16),
        "a tensor": tensor / 255,
        "a tensor of bytes": tensor,
        "a tensor of 16 bits": (tensor / 255).half(),
        "a tensor with a gradient": (tensor / 255).requires_grad_(),
        "a tensor with alpha": torch.cat([tensor / 255, torch.ones_like(tensor[:1])]),
    }


@pytest.mark.parametrize("form", forms(np.zeros((1, 1, 3), np.uint8)))
def test_an_image_is_the_same_in_every_form(form: str):
    frame = np.arange(768, dtype=np.uint32).astype(np.uint8).reshape(16, 16, 3)  # every byte
    assert np.array_equal(pixels(forms(frame)[form]), frame)


def test_an_open_file_is_read_once_for_all_videos_and_both_ends():
    frame = np.arange(768, dtype=np.uint32).astype(np.uint8).reshape(16, 16, 3)
    file = forms(frame)["an open file"]
    inputs = call_inputs(file, PROMPTS[0], num_videos_per_prompt=3, last=file)
    assert inputs.lasts is not None and len(inputs.images) == len(inputs.lasts) == 3
    assert all(np.array_equal(image, frame) for image in (*inputs.images, *inputs.lasts))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((4, 4, 3), np.nan), "floats from nan to nan"),
        (np.full((4, 4, 3), 255.0), "floats from 255 to 255; give floats from 0 to 1"),
        (torch.zeros(2, 4, 4), "the image tensor has shape (2, 4, 4)"),
        (np.zeros((4, 4, 3), np.int32), "the image array is int32"),
        (b"no image", "(bytes) is not an image in a supported format"),
        (b"", "image (bytes) is empty"),
        (IMAGES[0].read_bytes()[:200], "image (bytes) is damaged"),
        ("HTTP://x.org/a.png", "is an address, and nothing is downloaded"),
    ],
    ids=["nan", "0 to 255", "two channels", "integers", "text", "nothing", "cut", "address"],
)
def test_what_is_no_image_is_a_sentence(image: object, words: str):
    with pytest.raises(UserError, match=re.escape(words)):
        pixels(image)


# ---------------------------------------------------------------------------------------------------------------- video


@pytest.fixture
def video() -> Video:
    frames = np.arange(6 * 4 * 5 * 3, dtype=np.uint32).astype(np.uint8).reshape(6, 4, 5, 3)
    return Video(frames, 8.0, {"text": [[0, 'say "<b>" & go'], [3, "stop"]], "seed": 1})


def test_a_slice_shows_its_frames_at_their_times(video: Video):
    for part, fps in ((slice(1, 4), 8.0), (slice(None, None, 2), 4.0), (slice(None, None, -1), 8.0)):
        cut = video[part]
        assert np.array_equal(cut, video.frames[part]) and cut.fps == fps and cut.settings == video.settings
    assert np.array_equal(video[np.int64(2)], video.frames[2]) and len(video[9:]) == 0
    with pytest.raises(UserError, match="a video has no part 'a'; give the number of a frame or a slice"):
        video["a"]


def test_as_an_array_and_as_a_tensor(video: Video):
    assert np.asarray(video) is video.frames and np.array(video) is not video.frames
    assert np.asarray(video, np.float32).dtype == np.float32
    assert torch.equal(video.to_tensor(), torch.from_numpy(video.frames).permute(0, 3, 1, 2) / 255)
    assert video[::-1].to_tensor().shape == (6, 3, 4, 5)
    assert all(np.array_equal(image, frame) for image, frame in zip(video.to_pil(), video, strict=True))
    same = Video(video.frames.copy(), video.fps)
    assert video == same and len({video, same}) == 1
    assert video != video[::-1] and video != video[1:] and video != Video(video.frames, video.fps + 1) and video != 3


def test_a_notebook_gets_the_pixels_or_a_small_file_or_a_sentence(video: Video, monkeypatch: pytest.MonkeyPatch):
    import base64

    about = html.escape(repr(video), quote=True)
    exact = video._repr_html_()
    assert about in exact and "<b>" not in exact and repr(video).endswith('0.75 s: say "<b>" & go; stop)')
    with PIL.Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", exact)[1]))) as image:
        assert image.format == "WEBP" and image.n_frames == 6
        assert np.array_equal(np.asarray(image.convert("RGB")), video[0])
    monkeypatch.setattr(sampled_video, "_MOST_EXACT", 1)
    assert video._repr_html_().startswith('<video src="data:video/mp4;base64,')
    monkeypatch.setattr(sampled_video, "_MOST_EMBEDDED", 1)
    assert video._repr_html_() == f"<p>{about}: too large to be shown here; write it with save(path)</p>"
    assert video[9:]._repr_html_().startswith("<p>Video(0 frames of 5 x 4 px")


# -------------------------------------------------------------------------------------------------------------- package


def test_the_package_names_what_it_has_and_loads_it_late():
    assert set(cdcd_video.__all__) <= set(dir(cdcd_video))
    assert all(getattr(cdcd_video, name) for name in cdcd_video.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Vidoe'"):
        cdcd_video.Vidoe  # noqa: B018
    quick = "import cdcd_video, sys; cdcd_video.contact_sheet, cdcd_video.UserError; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", quick], cwd=ROOT, check=False).returncode == 0


def test_a_stream_takes_what_a_call_takes(pipe: ImageToVideo):
    given = dict(negative_prompt="the red circle moves left")
    params = pipe.defaults(guidance_scale=2.0, num_inference_steps=2, num_frames=3)
    parts = list(pipe.stream(IMAGES[0].read_bytes(), PROMPTS[0], params, **given))
    whole = pipe(IMAGES[0], PROMPTS[0], guidance=2.0, num_steps=2, num_frames=3, **given)
    assert np.array_equal(np.concatenate(parts), whole)
    from shapes import unchecked

    with unchecked(), pytest.raises(UserError, match="a stream is of one video"):
        pipe.stream(IMAGES, PROMPTS[0])
    with pytest.raises(TypeError, match="SamplingParams has no argument 'num_stepz'; did you mean 'num_steps'"):
        pipe.defaults(num_stepz=3)
