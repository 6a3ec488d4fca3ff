"""The ComfyUI nodes, under a stand-in for the parts of ComfyUI that they use and for the way it calls them."""

import importlib.util
import json
import os
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cdcd_video import ImageToVideo
from cdcd_video.data.images import fit, read_image
from cdcd_video.errors import UserError
from cdcd_video.sampling.captions import parse_lines

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "integrations" / "comfyui"
START = ROOT / "examples" / "red-circle.png"
pytestmark = pytest.mark.filterwarnings("ignore::cdcd_video.SamplingWarning")  # of images that are noise
SENTENCE = "the red circle moves right"


class Interrupted(BaseException):
    """In place of ComfyUI's InterruptProcessingException."""


class Host:
    """What ComfyUI offers to nodes: progress, interruption and the device."""

    def __init__(self) -> None:
        self.bars: list[list[float]] = []
        self.stop_after: int | None = None

    def modules(self) -> dict[str, ModuleType]:
        host = self

        class ProgressBar:
            def __init__(self, total: float):
                self.steps = [total]
                host.bars.append(self.steps)

            def update(self, value: float) -> None:
                self.steps.append(value)

        def throw_exception_if_processing_interrupted() -> None:
            if self.stop_after is not None and len(self.bars[-1]) > self.stop_after:
                self.stop_after = None
                raise Interrupted

        comfy, management, utils = (ModuleType(f"comfy{name}") for name in ("", ".model_management", ".utils"))
        management.throw_exception_if_processing_interrupted = throw_exception_if_processing_interrupted
        management.get_torch_device = lambda: torch.device("cpu")
        utils.ProgressBar = ProgressBar
        comfy.model_management, comfy.utils = management, utils
        return {module.__name__: module for module in (comfy, management, utils)}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host()
    for name, module in found.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return found


@pytest.fixture
def pack(host: Host) -> ModuleType:
    """The nodes, imported as ComfyUI does: by the path of their folder."""
    spec = importlib.util.spec_from_file_location("custom_nodes_cdcd", FOLDER / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_image(*paths: Path) -> torch.Tensor:
    """Pictures as ComfyUI's IMAGE: float32 (B, H, W, 3) from 0 to 1."""
    return torch.from_numpy(np.stack([read_image(path) for path in paths]).astype(np.float32) / 255)


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
    assert fps == pipe.defaults().fps and host.bars[0] == [4, 2, 2]  # two videos, two frames after the first
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


def test_an_interruption_comes_between_two_frames_and_leaves_the_model_usable(
    pack: ModuleType, host: Host, pipe: ImageToVideo
):
    (before,), _ = sample(pack, pipe, as_image(START), num_frames=4)
    host.stop_after = 1
    with pytest.raises(Interrupted):
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
    with pytest.raises(UserError, match="there are 3 masks for 1 images"):
        first_frame(pack, pipe, image, mask=torch.zeros(3, 64, 64))


@pytest.mark.parametrize(("text", "words"), [(" ", "the caption is empty"), ("8: it stops", "must begin at frame 0")])
def test_wrong_sentences_are_refused_before_sampling(pack: ModuleType, pipe: ImageToVideo, text: str, words: str):
    with pytest.raises(UserError, match=words):
        sample(pack, pipe, as_image(START), text)


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


# ------------------------------------------------------------------------------------------------------- the example


def core_nodes() -> dict[str, Any]:
    """ComfyUI's own nodes of the example, with their interfaces; what they do is not needed."""
    image, mask = as_image(START), torch.zeros(1, 64, 64)
    scaled, saved = ("IMAGE", {}), ("FLOAT", {"min": 0.01, "max": 1000.0})
    return {
        "LoadImage": SimpleNamespace(
            inputs={"image": (["red-circle.png"], {})}, RETURN_TYPES=("IMAGE", "MASK"), run=lambda **_: ((image, mask))
        ),
        "ImageScaleBy": SimpleNamespace(
            inputs={
                "image": scaled,
                "upscale_method": (["nearest-exact", "bilinear", "area", "bicubic", "lanczos"], {}),
                "scale_by": ("FLOAT", {"min": 0.01, "max": 8.0}),
            },
            RETURN_TYPES=("IMAGE",),
            run=lambda image, scale_by, **_: (image.repeat_interleave(4, 1).repeat_interleave(4, 2),),
        ),
        "SaveAnimatedWEBP": SimpleNamespace(
            inputs={
                "images": ("IMAGE", {}),
                "filename_prefix": ("STRING", {}),
                "fps": saved,
                "lossless": ("BOOLEAN", {}),
                "quality": ("INT", {"min": 0, "max": 100}),
                "method": (["default", "fastest", "slowest"], {}),
            },
            RETURN_TYPES=(),
            run=lambda images, fps, **_: (images, fps),
        ),
    }


KINDS = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}


def check_inputs(inputs: dict[str, Any], interface: dict[str, Any], outputs_of: dict[str, tuple[str, ...]]) -> None:
    """As ComfyUI checks a node before anything runs: links by type, widgets by type, range and list."""
    assert set(inputs) <= set(interface)
    for name, value in inputs.items():
        kind, limits = [*interface[name], {}][:2]
        if isinstance(value, list):
            assert outputs_of[value[0]][value[1]] == kind, name
        elif isinstance(kind, list):
            assert value in kind, name
        else:
            assert isinstance(value, KINDS[kind]), name
            if kind in ("INT", "FLOAT"):
                assert limits["min"] <= value <= limits["max"], name


def test_the_example_fits_the_nodes_and_runs(pack: ModuleType):
    workflow, core = json.loads((FOLDER / "workflow_api.json").read_text()), core_nodes()
    outputs_of = {
        number: (pack.NODE_CLASS_MAPPINGS.get(node["class_type"]) or core[node["class_type"]]).RETURN_TYPES
        for number, node in workflow.items()
    }
    results: dict[str, Any] = {}
    for number, node in workflow.items():  # it lists each node after those that it needs
        ours, inputs = pack.NODE_CLASS_MAPPINGS.get(node["class_type"]), node["inputs"]
        if ours is None:
            interface = required = core[node["class_type"]].inputs
        else:
            types = ours.INPUT_TYPES()
            required, interface = types["required"], types["required"] | types.get("optional", {})
        assert set(required) <= set(inputs)
        check_inputs(inputs, interface, outputs_of)
        given = {
            name: results[value[0]][value[1]] if isinstance(value, list) else value for name, value in inputs.items()
        }
        if ours is None:
            results[number] = core[node["class_type"]].run(**given)
        else:
            results[number] = getattr(ours(), ours.FUNCTION)(**given)
            assert len(results[number]) == len(ours.RETURN_TYPES)
            if getattr(ours, "OUTPUT_IS_LIST", (False,))[0]:  # nodes after it run once for each
                assert len(results[number][0]) == 1
                results[number] = (results[number][0][0], *results[number][1:])
    images, fps = results["5"]
    assert images.shape == (16, 256, 256, 3) and fps == 8
    assert not torch.equal(images[0], images[-1])


def test_widgets_are_of_kinds_that_comfyui_knows(pack: ModuleType):
    for node in pack.NODE_CLASS_MAPPINGS.values():
        types = node.INPUT_TYPES()
        for name, (kind, *more) in (types["required"] | types.get("optional", {})).items():
            assert isinstance(kind, list) or kind in {"IMAGE", "MASK", pack.MODEL, *KINDS}, name
            limits = more[0] if more else {}
            if kind in ("INT", "FLOAT"):
                assert limits["min"] <= limits["default"] <= limits["max"], name
        assert callable(getattr(node, node.FUNCTION)) and node.CATEGORY
    assert set(pack.NODE_DISPLAY_NAME_MAPPINGS) == set(pack.NODE_CLASS_MAPPINGS)


def test_every_widget_is_described():
    page = (FOLDER / "README.md").read_text()
    (text,) = [
        node["inputs"]
        for node in json.loads((FOLDER / "workflow_api.json").read_text()).values()
        if "text" in node["inputs"]
    ]
    assert all(f"`{name}`" in page for name in text if name != "model" and name != "num_frames")
