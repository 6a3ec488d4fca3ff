"""Feature networks: I3D against its published shapes and a public port's numbers, weights only by their hash, names."""

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cdcd_video.data.sprites import sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.errors import UserError
from cdcd_video.metrics.features import feature_weights, i3d, networks, offline
from cdcd_video.metrics.sets.distribution import frechet_distance

ROOT = Path(__file__).resolve().parent.parent
SHIPPED_CLIP = ROOT / "cdcd_video" / "models" / "sprites" / "clip"


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=seed)).integers(256, size=shape, dtype=np.uint8)


# ------------------------------------------------------------------------------------------------------------- I3D

SHAPES = {
    "Conv3d_1a_7x7": (64, 8, 112, 112),
    "MaxPool3d_2a_3x3": (64, 8, 56, 56),
    "Conv3d_2b_1x1": (64, 8, 56, 56),
    "Conv3d_2c_3x3": (192, 8, 56, 56),
    "MaxPool3d_3a_3x3": (192, 8, 28, 28),
    "Mixed_3b": (256, 8, 28, 28),
    "Mixed_3c": (480, 8, 28, 28),
    "MaxPool3d_4a_3x3": (480, 4, 14, 14),
    "Mixed_4b": (512, 4, 14, 14),
    "Mixed_4c": (512, 4, 14, 14),
    "Mixed_4d": (512, 4, 14, 14),
    "Mixed_4e": (528, 4, 14, 14),
    "Mixed_4f": (832, 4, 14, 14),
    "MaxPool3d_5a_2x2": (832, 2, 7, 7),
    "Mixed_5b": (832, 2, 7, 7),
    "Mixed_5c": (1024, 2, 7, 7),
}
"""Channels, frames, height and width after each stage, of 16 frames of 224 px (Szegedy et al. 2015, table 1, inflated)."""


@pytest.fixture(scope="module")
def blank_i3d() -> i3d.I3D:
    """No numbers, only shapes."""
    with torch.device("meta"):
        return i3d.I3D().eval()


def test_i3d_has_the_published_shapes_and_size(blank_i3d):
    seen = {}
    hooks = [
        stage.register_forward_hook(lambda _, __, out, name=name: seen.update({name: tuple(out.shape[1:])}))
        for name, stage in blank_i3d.named_children()
        if name != "logits"
    ]
    logits = blank_i3d(torch.empty(2, 3, 16, 224, 224, device="meta"))
    for hook in hooks:
        hook.remove()
    assert seen == SHAPES and list(seen) == list(SHAPES)
    assert logits.shape == (2, 400)
    assert sum(values.numel() for values in blank_i3d.parameters()) == 12_697_264


def test_i3d_bears_the_checkpoints_names(blank_i3d):
    units = ["Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"]
    units += [
        f"{name}.{part}" for name in SHAPES if "Mixed" in name for part in ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
    ]
    parts = ("conv3d.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    names = {f"{unit}.{part}" for unit in units for part in parts} | {"logits.conv3d.weight", "logits.conv3d.bias"}
    assert {name for name in blank_i3d.state_dict() if "num_batches" not in name} == names
    shapes = {name: tuple(values.shape) for name, values in blank_i3d.state_dict().items()}
    assert shapes["Conv3d_1a_7x7.conv3d.weight"] == (64, 3, 7, 7, 7)
    assert shapes["Mixed_4e.b2b.conv3d.weight"] == (64, 32, 3, 3, 3)
    assert shapes["Mixed_5c.b3b.conv3d.weight"] == (128, 832, 1, 1, 1)
    assert shapes["logits.conv3d.weight"] == (400, 1024, 1, 1, 1)


@pytest.mark.parametrize("num_frames", [i3d.LEAST_FRAMES, 10, 17, 30])
def test_i3d_of_other_lengths(blank_i3d, num_frames):
    assert blank_i3d(torch.empty(1, 3, num_frames, 224, 224, device="meta")).shape == (1, 400)


@pytest.mark.sweep
@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 1), (3, 2), (2, 2), (1, 1)])
def test_same_padding_is_tensorflows(size, kernel, stride):
    """Every output is ceil(size / stride) long, its window lies as TF lays it: the odd zero behind."""
    padded = i3d.pad_same(torch.ones(1, 1, size), (kernel,), (stride,))[0, 0]
    num_windows = -(-size // stride)
    assert (len(padded) - kernel) // stride + 1 == num_windows
    before, after = int(padded.argmax()), int(padded.flip(0).argmax())
    assert before + size + after == len(padded) and after - before in (0, 1)


def made_up_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """The same numbers for the same names on every machine, sized so that signals pass through all layers."""
    made = {}
    for name in sorted(shapes):
        rng = np.random.Generator(np.random.Philox(key=int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)))
        shape = tuple(shapes[name])
        if name.endswith(("running_var", "bn.weight")):
            values = rng.uniform(0.5, 1.5, shape)
        else:
            fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 100
            values = rng.normal(size=shape) * np.sqrt(2 / fan_in)
        made[name] = torch.from_numpy(values.astype(np.float32))
    return made


def striped_video(num_frames: int = 9) -> torch.Tensor:
    """(1, 3, F, 224, 224) in [-1, 1]: waves that differ along every axis."""
    t, y, x = np.meshgrid(np.arange(num_frames), np.arange(224), np.arange(224), indexing="ij")
    waves = [np.sin(0.11 * x + 0.7 * t), np.cos(0.07 * y - 0.4 * t), np.sin(0.05 * (x + y) + t)]
    return torch.from_numpy(np.stack(waves).astype(np.float32))[None]


PORT_LOGITS = (-0.09781, 0.56264, 8.076543, -8.311703, 6.445833, -2.96279)
PORT_NORM = 157.706421
"""What the public PyTorch port (the one in TATS, with TensorFlow's epsilon) makes of `striped_video`."""


def test_i3d_computes_what_the_public_port_computes():
    network = i3d.I3D().eval()
    shapes = {name: values.shape for name, values in network.state_dict().items() if "num_batches" not in name}
    network.load_state_dict(made_up_weights(shapes))
    with torch.inference_mode():
        logits = network(striped_video())[0]
    np.testing.assert_allclose(logits[:6], PORT_LOGITS, atol=2e-3)
    assert logits.norm().item() == pytest.approx(PORT_NORM, rel=1e-4)


def test_both_resize_habits():
    square = torch.from_numpy(noise(2, 3, 64, 64, 3))
    assert torch.equal(i3d.squash(square), i3d.crop(square)), "they part only where frames are not square"
    shown = i3d.squash(square)
    assert shown.shape == (2, 3, 3, 224, 224)
    for level, value in ((255, 1), (0, -1)):
        torch.testing.assert_close(i3d.squash(torch.full_like(square, level)), torch.full_like(shown, value))

    wide = torch.zeros(1, 1, 112, 336, 3, dtype=torch.uint8)
    wide[..., 112:224, :] = 255
    assert (i3d.crop(wide)[..., 2:-2] > 0.999).all(), "the middle third is just what is cut out"
    squashed = i3d.squash(wide)[0, 0, 0, 0]
    assert (squashed[:72] < -0.999).all() and (squashed[78:146] > 0.999).all() and (squashed[152:] < -0.999).all()
    tall = wide.transpose(2, 3)
    assert torch.equal(i3d.crop(tall), i3d.crop(wide).transpose(3, 4))
    assert i3d.crop(torch.zeros(1, 1, 101, 64, 3, dtype=torch.uint8)).shape == (1, 3, 1, 224, 224)


def test_resizes_interpolate_between_pixel_centres():
    ramp = torch.arange(0, 256, 32, dtype=torch.uint8).repeat(8, 1)[None, None, :, :, None].expand(1, 1, 8, 8, 3)
    row = (i3d.squash(ramp)[0, 0, 0, 100] + 1) * 127.5
    centres = np.clip((np.arange(224) + 0.5) * 8 / 224 - 0.5, 0, 7) * 32
    np.testing.assert_allclose(row, centres, atol=1e-3)


@pytest.mark.parametrize(
    ("num_frames", "known"), [(10, 569.2296293622766), (16, 152.91750309134142), (30, 151.2564750365302)]
)
def test_i3d_with_its_true_weights_gives_the_published_values(num_frames, known):
    """FVD of 8 black videos against 8 white ones, as published for StyleGAN-V's network (TensorFlow's own: 151.3924)."""
    if not feature_weights.is_here("i3d"):
        pytest.skip(f"{feature_weights.WEIGHTS['i3d'].file} is not in {feature_weights.folder()}")
    network = networks.load("i3d")
    # All 8 videos of a set are the same one, so two of them say everything.
    black = np.zeros((2, num_frames, 64, 64, 3), dtype=np.uint8)
    assert frechet_distance(network(black).features, network(255 - black).features) == pytest.approx(known, rel=3e-3)


# --------------------------------------------------------------------------------------------------------- weights


@pytest.fixture
def weights_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(feature_weights.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def pinned(monkeypatch, name: str, data: bytes, **changes) -> None:
    """Declares `data` to be the published file."""
    known = feature_weights.WEIGHTS[name]
    digest = {"sha256": hashlib.sha256(data).hexdigest()} | changes
    monkeypatch.setitem(feature_weights.WEIGHTS, name, feature_weights.WeightsFile(**(vars(known) | digest)))


def as_file(state: dict[str, torch.Tensor], path: Path) -> bytes:
    torch.save(state, path)
    return path.read_bytes()


@pytest.mark.parametrize("name", feature_weights.WEIGHTS)
def test_missing_weights_are_one_sentence_that_says_all(name, weights_folder):
    wanted = feature_weights.WEIGHTS[name]
    with pytest.raises(UserError) as told:
        feature_weights.read(name)
    said = str(told.value)
    for part in (
        wanted.file,
        wanted.sha256,
        wanted.url,
        str(weights_folder),
        feature_weights.FOLDER_VARIABLE,
        wanted.instead,
    ):
        assert part in said
    assert f"cdcd_video.tools.weights get {name}" in said and "\n" not in said
    assert len(wanted.sha256) == 64 and wanted.url.startswith("https://")


def test_networks_without_weights_say_so_and_the_built_in_ones_stand_in(weights_folder):
    for name in ("inception", "i3d", "i3d:videogpt", "videomae"):
        with pytest.raises(UserError, match="needs no download"):
            networks.load(name)
    with pytest.raises(UserError, match="ssim needs no download"):
        networks.lpips()
    assert networks.preferred("frames") == "sprites-frame" and networks.preferred("videos") == "sprites-video"
    (weights_folder / feature_weights.WEIGHTS["inception"].file).touch()
    assert networks.preferred("frames") == "inception" and networks.preferred("videos") == "sprites-video"


def test_other_content_is_never_opened(weights_folder, monkeypatch):
    path = weights_folder / feature_weights.WEIGHTS["i3d"].file
    data = as_file({"a": torch.arange(3)}, path)
    with pytest.raises(
        UserError, match=r"is not the i3d_pretrained_400.pt .* its sha256 is " + hashlib.sha256(data).hexdigest()
    ):
        feature_weights.read("i3d")
    pinned(monkeypatch, "i3d", data)
    assert feature_weights.read("i3d")["a"].tolist() == [0, 1, 2]
    path.write_bytes(data[:-1])
    with pytest.raises(UserError, match="delete it"):
        feature_weights.read("i3d")


def test_a_file_may_be_known_by_its_name_in_git(weights_folder, monkeypatch):
    path = weights_folder / feature_weights.WEIGHTS["i3d"].file
    as_file({"a": torch.zeros(1)}, path)
    blob = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True).stdout.strip()
    pinned(monkeypatch, "i3d", b"", git_blob=blob)
    assert list(feature_weights.read("i3d")) == ["a"]


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("run",)


def test_nothing_in_a_file_is_run(weights_folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps({"weight": Malicious()}, protocol=2)
    (weights_folder / feature_weights.WEIGHTS["inception"].file).write_bytes(data)
    pinned(monkeypatch, "inception", data)
    with pytest.raises(pickle.UnpicklingError):
        networks.load("inception")
    assert not Path("run").exists()


def test_the_tool_fetches_only_what_is_pinned(weights_folder, monkeypatch, tmp_path):
    from cdcd_video.tools.weights import fetch

    data = as_file({"a": torch.ones(2)}, tmp_path / "published.pt")
    pinned(monkeypatch, "i3d", data, url=(tmp_path / "published.pt").as_uri())
    path = fetch("i3d")
    assert path == weights_folder / "i3d_pretrained_400.pt" and path.read_bytes() == data
    assert feature_weights.read("i3d")["a"].tolist() == [1, 1]
    path.unlink()
    pinned(monkeypatch, "i3d", b"another", url=(tmp_path / "published.pt").as_uri())
    with pytest.raises(UserError, match="sent a file with another hash"):
        fetch("i3d")
    pinned(monkeypatch, "i3d", data, url=(tmp_path / "absent.pt").as_uri())
    with pytest.raises(UserError, match="cannot be downloaded"):
        fetch("i3d")
    assert sorted(file.name for file in weights_folder.iterdir()) == ["published.pt"], "nothing half done stays"


def test_the_tool_lists_and_refuses(weights_folder, monkeypatch, capsys):
    from cdcd_video.errors import exit_code
    from cdcd_video.tools import weights as tool

    monkeypatch.setattr(sys, "argv", ["weights", "list"])
    assert exit_code(tool.main) == 0
    listed = capsys.readouterr().out
    assert all(wanted.sha256 in listed for wanted in feature_weights.WEIGHTS.values())
    monkeypatch.setattr(sys, "argv", ["weights", "get", "resnet"])
    assert exit_code(tool.main) == 2 and "choose from inception, i3d" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------- networks


def test_unknown_names(weights_folder):
    for name in (
        "vgg",
        "inception:x",
        "sprites-frame:1",
        "i3d:stretch",
        "clip",
        "clip:nowhere",
        "flow-histograms:1",
        "videomae:nowhere",
    ):
        with pytest.raises(UserError):
            networks.load(name)


@pytest.fixture
def random_inception(weights_folder, monkeypatch) -> nn.Module:
    """torch-fidelity's network with random weights, which now count as the published ones."""
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    with monkeypatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = fidelity.FeatureExtractorInceptionV3("random", ["2048", "logits_unbiased"])
    data = as_file(network.state_dict(), weights_folder / feature_weights.WEIGHTS["inception"].file)
    pinned(monkeypatch, "inception", data)
    return network


def test_inception_is_torch_fidelitys(random_inception):
    network = networks.load("inception")
    assert network.input_kind == "frames" and network.digest == feature_weights.WEIGHTS["inception"].sha256
    frames = noise(3, 48, 40, 3)
    seen = network(frames)
    features, logits = random_inception(torch.from_numpy(frames).permute(0, 3, 1, 2))
    np.testing.assert_allclose(seen.features, features, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.logits, logits, rtol=1e-5, atol=1e-6)
    assert seen.features.shape == (3, 2048) and seen.logits.shape == (3, 1008) and seen.features.dtype == np.float64


def test_i3d_by_name(weights_folder, monkeypatch):
    with torch.device("meta"):
        shapes = {name: values.shape for name, values in i3d.I3D().state_dict().items() if "num_batches" not in name}
    data = as_file(made_up_weights(shapes), weights_folder / feature_weights.WEIGHTS["i3d"].file)
    pinned(monkeypatch, "i3d", data)
    wide = noise(1, 9, 20, 30, 3)
    seen = {name: networks.load(name)(wide) for name in ("i3d", "i3d:videogpt")}
    assert seen["i3d"].features.shape == (1, 400) and np.array_equal(seen["i3d"].features, seen["i3d"].logits)
    assert not np.allclose(seen["i3d"].features, seen["i3d:videogpt"].features)
    with pytest.raises(UserError, match="9 or more frames, not 8"):
        networks.load("i3d")(wide[:, :8])


@pytest.mark.parametrize("has_classes", [True, False])
def test_videomae_from_a_folder(has_classes, tmp_path):
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEModel

    config = VideoMAEConfig(
        image_size=32,
        patch_size=16,
        num_frames=4,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = (VideoMAEForVideoClassification if has_classes else VideoMAEModel)(config).eval()
    made.save_pretrained(tmp_path / "mae")
    network = networks.load(f"videomae:{tmp_path / 'mae'}")
    videos = noise(3, 4, 32, 32, 3)
    seen = network(videos)
    mean, std = (np.array(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = torch.from_numpy((videos / 255 - mean) / std).float().permute(0, 1, 4, 2, 3)
    with torch.inference_mode():
        backbone = made.videomae if has_classes else made
        np.testing.assert_allclose(seen.features, backbone(pixels).last_hidden_state.mean(1), rtol=1e-4, atol=1e-5)
        if has_classes:
            np.testing.assert_allclose(seen.logits, made(pixels).logits, rtol=1e-4, atol=1e-5)
    assert (seen.logits is None) != has_classes
    assert network.digest == hashlib.sha256((tmp_path / "mae" / "model.safetensors").read_bytes()).hexdigest()
    with pytest.raises(UserError, match="takes 4 frames, not 5"):
        network(noise(1, 5, 32, 32, 3))
    (tmp_path / "mae" / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(UserError, match="does not hold a VideoMAE"):
        networks.load(f"videomae:{tmp_path / 'mae'}")


@pytest.mark.parametrize("has_classes", [True, False])
def test_vjepa2_from_a_folder(has_classes, tmp_path):
    from transformers import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2Model

    config = VJEPA2Config(
        crop_size=32,
        patch_size=16,
        frames_per_clip=4,
        hidden_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_pooler_layers=1,
        pred_hidden_size=48,
        pred_num_hidden_layers=1,
        pred_num_attention_heads=2,
        num_labels=5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = (VJEPA2ForVideoClassification if has_classes else VJEPA2Model)(config).eval()
    made.save_pretrained(tmp_path / "jepa")
    network = networks.load(f"vjepa2:{tmp_path / 'jepa'}")
    videos = noise(3, 4, 32, 32, 3)
    seen = network(videos)
    mean, std = (np.array(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = torch.from_numpy((videos / 255 - mean) / std).float().permute(0, 1, 4, 2, 3)
    with torch.inference_mode():
        if has_classes:
            pooled = made.pooler(made.vjepa2(pixels, skip_predictor=True).last_hidden_state)
            np.testing.assert_allclose(seen.features, pooled, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(seen.logits, made(pixels).logits, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_allclose(
                seen.features, made(pixels, skip_predictor=True).last_hidden_state.mean(1), rtol=1e-4, atol=1e-5
            )
    assert (seen.logits is None) != has_classes
    with pytest.raises(UserError, match="takes 4 frames, not 6"):
        network(noise(1, 6, 32, 32, 3))
    (tmp_path / "jepa" / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(UserError, match="does not hold a VJEPA2"):
        networks.load(f"vjepa2:{tmp_path / 'jepa'}")


def test_any_clip_by_its_folder():
    network = networks.load(f"clip:{SHIPPED_CLIP}")
    seen = network(noise(5, 64, 64, 3))
    assert seen.logits is None and len(network.digest) == 64
    np.testing.assert_allclose(np.linalg.norm(seen.features, axis=1), 1, rtol=1e-5)


def test_lpips_is_torchmetrics_with_the_trunk_from_a_file(monkeypatch):
    from torchmetrics.functional.image import lpips as functional
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    with torch.random.fork_rng():
        torch.manual_seed(2)
        trunk = functional._get_tv_model_features("alexnet")
    state = {f"features.{name}": values for name, values in trunk.state_dict().items()}
    monkeypatch.setattr(feature_weights, "read", lambda name: state if name == "lpips-alex" else {})
    distance = networks.lpips("alex")
    frames = noise(35, 64, 64, 3)
    other = np.clip(frames.astype(int) + noise(35, 64, 64, 3, seed=1) // 4, 0, 255).astype(np.uint8)
    values = distance(frames, other)
    assert values.shape == (35,) and (values > 0).all()
    assert distance(frames, frames).max() == 0

    monkeypatch.setattr(functional, "_get_tv_model_features", lambda *_: trunk)
    known = LearnedPerceptualImagePatchSimilarity(net_type="alex", reduction="sum", normalize=True)
    sides = [torch.from_numpy(side).permute(0, 3, 1, 2) / 255 for side in (frames, other)]
    assert values.sum() == pytest.approx(known(*sides).item(), rel=1e-4)


# -------------------------------------------------------------------------------------------- the built-in networks


@pytest.mark.parametrize(
    ("name", "shape", "classes"), [("sprites-frame", (70, 64, 64, 3), 32), ("sprites-video", (19, 16, 64, 64, 3), 16)]
)
def test_built_in_networks(name, shape, classes):
    network = networks.load(name)
    pixels = noise(*shape)
    seen = network(pixels)
    assert seen.features.shape == (shape[0], offline.NUM_FEATURES) and seen.logits.shape == (shape[0], classes)
    path = offline.FOLDER / f"{name}.safetensors"
    assert path.stat().st_size < 1_000_000
    assert network.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    alone = np.concatenate([network(pixels[place : place + 1]).features for place in (0, 7)])
    np.testing.assert_allclose(alone, seen.features[[0, 7]], rtol=1e-3, atol=1e-3, err_msg="batches do not matter")
    assert np.isfinite(network(noise(1, *shape[1:-3], 96, 80, 3)).features).all(), "other sizes are brought to 64 px"


def test_built_in_networks_see_their_world_only_in_whole_windows():
    with pytest.raises(UserError, match="sprites-video takes 16 frames, not 12"):
        networks.load("sprites-video")(noise(1, 12, 64, 64, 3))


def test_short_windows_tell_when_a_video_begins_to_freeze():
    """sprites-video over 8 frames, as it follows videos that one window of 16 holds."""
    network = networks.load("sprites-video")
    assert network.short_frames == 8
    times = np.arange(16) / 8
    films = np.stack([render(sample_scene(0, index, "val"), times, 64) for index in range(64)])
    true, others = films[:32], films[32:]
    late = true.copy()
    late[:, 8:] = late[:, 8:9]

    def apart(videos: np.ndarray, begin: int) -> float:
        part = slice(begin, begin + 8)
        return frechet_distance(network(videos[:, part]).features, network(others[:, part]).features)

    assert apart(late, 0) == apart(true, 0)
    assert apart(late, 8) > 1.4 * apart(true, 8)


def test_a_damaged_built_in_network_is_said(tmp_path):
    (tmp_path / "sprites-frame.safetensors").write_bytes(b"cut short")
    for name in offline.NETWORKS:
        with pytest.raises(UserError, match="missing or damaged"):
            offline.load(name, tmp_path)


def test_training_is_reproducible_and_its_file_is_what_is_loaded(tmp_path, monkeypatch):
    from cdcd_video.tools.dev import feature_training
    from cdcd_video.tools.dev.feature_training import accuracy, train

    monkeypatch.setattr(feature_training, "NUM_SCORED", 32)
    monkeypatch.setitem(feature_training.SCENES, "sprites-frame", 8)

    one, again = (train("sprites-frame", 2, seed=3) for _ in range(2))
    for name, values in one.state_dict().items():
        assert torch.equal(values, again.state_dict()[name]), name
    offline.save(one, "sprites-frame", tmp_path)
    loaded, digest = offline.load("sprites-frame", tmp_path)
    assert len(digest) == 64 and not loaded.training
    frames = torch.from_numpy(noise(4, 64, 64, 3))
    expected, found = (network(offline.as_pixels(frames))[0] for network in (one, loaded))
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)
    assert set(accuracy("sprites-frame", loaded)) == set(offline.FRAME_HEADS)
