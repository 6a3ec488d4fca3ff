"""The ComfyUI nodes, under a stand-in for the parts of ComfyUI that they use and for the way it calls them."""

import os
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from comfyui_host import ROOT, START, Host, as_image, installed, load_pack
from PIL import Image

from cdcd_video import ImageToVideo
from cdcd_video.data.images import fit, read_image
from cdcd_video.errors import UserError
from cdcd_video.sampling.captions import parse_lines

pytestmark = pytest.mark.filterwarnings("ignore::cdcd_video.SamplingWarning")  # of images that are noise
SENTENCE = "the red circle moves right"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return installed(monkeypatch)


@pytest.fixture
def pack(host: Host) -> ModuleType:
    return load_pack()


def sample(pack: ModuleType, model: ImageToVideo, image: torch.Tensor, text: str = SENTENCE, **more: Any) -> Any:
    given: dict[str, Any] = {"num_frames": 3, "seed": 5, "fit": pack.OWN} | more
    return pack.SampleVideo().sample(model, image, text, **given)


@pytest.fixture(scope="module")
def pipe() -> ImageToVideo:
    return ImageToVideo.from_pretrained("sprites", "cpu")


def test_every_image_of_a_batch_gives_the_video_that_the_pipeline_gives(
    pack: ModuleType, host: Host, pipe: ImageToVideo
):
    starts = [START, ROOT / "examples" / "square-and-star.png"]
    videos, fps = sample(pack, pipe, as_image(*starts))
    assert fps == pipe.defaults().fps and host.bars[0] == [4, 2, 4]  # two videos, two frames after the first
    for path, video in zip(starts, videos, strict=True):
        assert video.dtype == torch.float32 and video.device.type == "cpu"
        assert (video.shape, float(video.min()) >= 0, float(video.max()) <= 1) == ((3, 64, 64, 3), True, True)
        alone = pipe(path, SENTENCE, num_frames=3, seed=5).frames
        assert (np.rint(video.numpy() * 255).astype(np.uint8) == alone).all()


def test_settings_reach_the_sampler_and_zero_is_the_models_own(pack: ModuleType, pipe: ImageToVideo, monkeypatch):
    given: list[dict[str, Any]] = []
    own = type(pipe).__call__

    def noted(self: ImageToVideo, *arguments: Any, **more: Any) -> Any:
        found = own(self, *arguments, **more)
        given.extend(found.settings)
        return found

    monkeypatch.setattr(type(pipe), "__call__", noted)
    sample(pack, pipe, as_image(START))
    _, fps = sample(pack, pipe, as_image(START), fps=4.0, num_steps=3, guidance=1.5)
    ours, changed = given
    assert ours == pipe.settings(SENTENCE, pipe.defaults(num_frames=3, seed=5))
    assert (changed["fps"], changed["num_steps"], changed["guidance"], fps) == (4.0, 3, 1.5, 4.0)


@pytest.mark.parametrize(("seed", "same"), [(2**63 - 1, 2**63 - 1), (2**63, 0), (2**64 - 1, 2**63 - 1)])
def test_every_seed_of_the_widget_works(pack: ModuleType, pipe: ImageToVideo, seed: int, same: int):
    limits = pack.SampleVideo.INPUT_TYPES()["required"]["seed"][1]
    assert limits["min"] <= seed <= limits["max"] == 2**64 - 1
    (video,), _ = sample(pack, pipe, as_image(START), seed=seed, num_frames=2)
    assert (np.rint(video.numpy() * 255) == pipe(START, SENTENCE, num_frames=2, seed=same).frames).all()


@pytest.mark.parametrize("base", [Exception, BaseException])
def test_an_interruption_comes_between_two_frames_and_leaves_the_model_usable(
    pack: ModuleType, host: Host, pipe: ImageToVideo, base: type[BaseException]
):
    host.interruption = type("InterruptProcessingException", (base,), {})
    (before,), _ = sample(pack, pipe, as_image(START), num_frames=4)
    host.stop_after = 1
    with pytest.raises(host.interruption):
        sample(pack, pipe, as_image(START), num_frames=4)
    assert host.bars[-1] == [3, 1]  # one of three frames
    (after,), _ = sample(pack, pipe, as_image(START), num_frames=4)
    assert torch.equal(before, after)


def test_it_works_in_the_thread_and_the_inference_mode_of_comfyui(pack: ModuleType, pipe: ImageToVideo):
    found: list[torch.Tensor] = []

    def work() -> None:
        with torch.inference_mode():
            (model,) = pack.LoadModel().load("sprites")
            (video,), _ = sample(pack, model, as_image(START))
            found.append(video)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (expected,), _ = sample(pack, pipe, as_image(START))
    assert torch.equal(found[0], expected)


def first_frame(pack: ModuleType, pipe: ImageToVideo, image: torch.Tensor, **more: Any) -> np.ndarray:
    (video,), _ = sample(pack, pipe, image, num_frames=1, **more)
    return np.rint(video[0].numpy() * 255).astype(np.uint8)


@pytest.mark.parametrize("mode", ["crop", "letterbox"])
def test_images_of_other_sizes_are_fitted_as_the_widget_says(pack: ModuleType, pipe: ImageToVideo, mode: str):
    picture = np.random.default_rng(0).integers(0, 256, (37, 90, 3), np.uint8)
    found = first_frame(pack, pipe, torch.from_numpy(picture.astype(np.float32) / 255)[None], fit=mode)
    assert (found == fit(picture, (64, 96), mode)).all(), "the nearest of the shapes that the model knows"


def test_what_is_transparent_becomes_white(pack: ModuleType, pipe: ImageToVideo, tmp_path: Path):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8)
    Image.fromarray(picture, "RGBA").save(tmp_path / "x.png")
    expected = read_image(tmp_path / "x.png").astype(int)
    image = torch.from_numpy(picture.astype(np.float32) / 255)[None]
    by_mask = first_frame(pack, pipe, image[..., :3], mask=1 - image[..., 3])
    by_channel = first_frame(pack, pipe, image)  # as a node that joins alpha gives it
    assert abs(by_mask.astype(int) - expected).max() <= 1 and (by_channel == expected).all()


def test_the_mask_of_an_image_without_transparency_changes_nothing(pack: ModuleType, pipe: ImageToVideo):
    image = as_image(START)
    masks = [torch.zeros(1, 16, 16), torch.zeros(1, 64, 64)]  # LoadImage's has a size of its own
    assert all((first_frame(pack, pipe, image, mask=mask) == read_image(START)).all() for mask in masks)


def test_odd_images_are_read_or_refused_in_a_sentence(pack: ModuleType, pipe: ImageToVideo):
    image = as_image(START)
    for odd in (image.half(), image * 1.004, image - 1e-6, image[..., :1]):  # as other nodes leave them
        assert first_frame(pack, pipe, odd).shape == (64, 64, 3)
    for wrong, words in (
        (image * torch.nan, "floats from nan"),
        (image[:0], "the list of images is empty"),
        (image[..., :2], "shape"),
    ):
        with pytest.raises(UserError, match=words):
            first_frame(pack, pipe, wrong)
    assert (first_frame(pack, pipe, image[0]) == first_frame(pack, pipe, image)).all()
    with pytest.raises(UserError, match=r"the images have the shape \(1, 1, 64, 64, 3\)"):
        first_frame(pack, pipe, image[None])
    for mask in (torch.ones(64, 64), torch.ones(1, 1, 64, 64)):  # as some nodes give them
        assert (first_frame(pack, pipe, image, mask=mask) == 255).all()
    with pytest.raises(UserError, match=r"the masks have the shape \(64,\)"):
        first_frame(pack, pipe, image, mask=torch.ones(64))
    with pytest.raises(UserError, match="there are 3 masks for 1 images"):
        first_frame(pack, pipe, image, mask=torch.zeros(3, 64, 64))


@pytest.mark.parametrize(("text", "words"), [(" ", "the caption is empty"), ("8: it stops", "must begin at frame 0")])
def test_wrong_sentences_are_refused_before_sampling(pack: ModuleType, pipe: ImageToVideo, text: str, words: str):
    with pytest.raises(UserError, match=words):
        sample(pack, pipe, as_image(START), text)


def test_a_note_is_written_of_every_video_and_not_only_of_the_first(
    pack: ModuleType, pipe: ImageToVideo, capsys: pytest.CaptureFixture[str]
):
    noise = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    for seed in (1, 2):
        sample(pack, pipe, noise, seed=seed)
        assert "note: the starting frame is unlike the training frames" in capsys.readouterr().err


def test_lines_of_a_text_field_are_captions():
    assert parse_lines("the ball\nbounces").turns == ((0, "the ball bounces"),)
    assert parse_lines("0: it moves\n  and spins\n\n 8: it stops\n").turns == (
        (0, "it moves and spins"),
        (8, "it stops"),
    )
    assert parse_lines("it moves\r\n8: it stops").turns == ((0, "it moves"), (8, "it stops"))
    assert parse_lines("at noon\n3:30 pm is shown").turns == ((0, "at noon 3:30 pm is shown"),)


def test_a_model_that_was_trained_on_is_loaded_again(pack: ModuleType, tmp_path: Path):
    (tmp_path / "model").mkdir()
    for name in ("config.yaml", "denoiser.safetensors"):
        (tmp_path / "model" / name).touch()
    before = pack.LoadModel.IS_CHANGED(str(tmp_path))
    assert isinstance(before, str) and before == pack.LoadModel.IS_CHANGED(str(tmp_path))
    os.utime(tmp_path / "model" / "denoiser.safetensors", ns=(1, 1))
    assert pack.LoadModel.IS_CHANGED(str(tmp_path)) != before
    with pytest.raises(UserError, match="there is no model"):
        pack.LoadModel().load("no-such-model")
    (tmp_path / "model" / "removed.json").symlink_to(tmp_path / "nowhere")  # a file that goes while it is looked at
    gone = pack.LoadModel.IS_CHANGED(str(tmp_path))
    assert gone != gone
    unknown_yet = pack.LoadModel.IS_CHANGED(None)  # how ComfyUI asks when another node gives the name
    assert unknown_yet != unknown_yet, "so that it is loaded, and nothing old is kept"
