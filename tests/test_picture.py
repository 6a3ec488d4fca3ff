"""What a drawn frame pays beside L1 and L2: the perceptual and the adversarial term, their gradients, and that they are off."""

import shutil

import pytest
import torch
import torch.nn.functional as F
from fixtures_model import ROOT

from cdcd_video.config import CodecConfig, Config, PictureConfig, config_file
from cdcd_video.engine.checkpoint import load_weights
from cdcd_video.errors import UserError
from cdcd_video.metrics.features import feature_weights
from cdcd_video.model import build_critic
from cdcd_video.networks.codec.codec_loss import decoder_objective
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.networks.codec.perceptual import Critic, Picture
from cdcd_video.training.pixel_stages import picture_of
from cdcd_video.training.training_run import TrainingRun

CPU = torch.device("cpu")


def tiny(*changes: str) -> Config:
    return config_file.load(ROOT / "configs" / "tiny.yaml", Config, changes)


@pytest.fixture
def frames() -> tuple[torch.Tensor, torch.Tensor]:
    """Drawn and true ones."""
    decoded, truth = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return decoded.requires_grad_(), truth


@pytest.fixture
def critic() -> Critic:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Critic(4)


def test_both_are_off_unless_asked_for():
    config = tiny()
    assert picture_of(config, build_critic(config), CPU) is None
    assert config.picture.perceptual == config.picture.adversarial == 0


def test_the_critic_learns_from_what_it_says_and_the_frame_from_what_it_hears(frames, critic):
    """One backward pass gives both the gradients of two separate ones."""
    decoded, truth = frames
    picture = Picture(PictureConfig(adversarial=0.3), critic=critic)
    total, parts = picture(decoded, truth)
    total.backward()
    parameters = list(critic.parameters())
    got = decoded.grad.clone(), [parameter.grad.clone() for parameter in parameters]

    scores = critic(decoded * 2 - 1)
    (of_frame,) = torch.autograd.grad(-0.3 * scores.mean(), decoded)
    of_truth, of_drawn = critic(truth * 2 - 1), critic(decoded.detach() * 2 - 1)
    hinge = torch.where(of_truth < 1, 1 - of_truth, 0).mean() + torch.where(of_drawn > -1, 1 + of_drawn, 0).mean()
    torch.testing.assert_close(got[0], of_frame)
    torch.testing.assert_close(got[1], list(torch.autograd.grad(hinge, parameters)))
    torch.testing.assert_close(total, -0.3 * scores.mean() + hinge)
    assert set(parts) == {"adversarial", "critic"} and got[0].abs().max() > 0


def test_a_number_of_the_critic_depends_on_54_pixels_each_way(critic):
    frame = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0), requires_grad=True)
    critic(frame)[0, 0, 8, 8].backward()
    seen = frame.grad.abs().sum((0, 1)) > 0
    assert [int(seen.any(axis).sum()) for axis in (0, 1)] == [54, 54]


def test_the_critic_separates_true_from_blurred_after_a_few_steps(frames, critic):
    _, truth = frames
    blurred = F.avg_pool2d(truth, 5, 1, 2)
    picture = Picture(PictureConfig(adversarial=1.0), critic=critic)
    optimizer = torch.optim.AdamW(critic.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        total, parts = picture(blurred, truth)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(parts["critic"]))
    assert losses[0] > 1.5 and losses[-1] < 0.5
    assert critic(truth * 2 - 1).mean() > 0.5 > -0.5 > critic(blurred * 2 - 1).mean()


def test_the_perceptual_term_is_lpips_with_gradients_to_the_decoded_frame(frames, monkeypatch):
    from torchmetrics.functional.image import lpips as functional

    with torch.random.fork_rng():
        torch.manual_seed(2)
        trunk = functional._NoTrainLpips(net="alex", pnet_rand=True).net.state_dict()
    state = {f"features.{key.split('.', 1)[1]}": value for key, value in trunk.items()}
    monkeypatch.setattr(feature_weights, "read", lambda name: {"lpips-alex": state}[name])
    config = tiny("picture.perceptual=0.5", "picture.trunk=alex")
    picture = picture_of(config, None, CPU)
    decoded, truth = (F.interpolate(side.detach(), scale_factor=2.0) for side in frames)
    decoded.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        total, parts = picture(decoded, truth)
    network = functional._NoTrainLpips(net="alex", pnet_rand=True)
    network.net.load_state_dict(trunk)
    expected = network(decoded * 2 - 1, truth * 2 - 1).mean()
    torch.testing.assert_close(parts["perceptual"], expected)
    torch.testing.assert_close(total, 0.5 * expected)
    (gradient,) = torch.autograd.grad(total, decoded)
    torch.testing.assert_close(gradient, *torch.autograd.grad(0.5 * expected, decoded))
    assert gradient.abs().max() > 0 and picture(truth, truth)[0] == 0


def test_lpips_without_its_weights_is_reported_in_one_sentence(tmp_path, monkeypatch, tiny_model):
    monkeypatch.setenv(feature_weights.FOLDER_VARIABLE, str(tmp_path / "none"))
    run = TrainingRun(tiny("picture.perceptual=1"), tmp_path / "run", ["test"])
    shutil.copytree(tiny_model, run.folder)
    with pytest.raises(UserError, match="lpips-vgg needs .*python -m cdcd_video.tools.weights get lpips-vgg") as told:
        run.train(["codec"])
    assert "\n" not in str(told.value)


def test_a_decoder_with_a_critic_is_trained_resumed_and_handed_on_without_it(tmp_path, tiny_model, monkeypatch):
    dials = ("num_steps=6", "checkpoint_every=2")
    config = tiny("picture.adversarial=0.1", "picture.critic_width=4", *(f"train.decoder.{dial}" for dial in dials))

    def start(name: str) -> TrainingRun:
        run = TrainingRun(config, tmp_path / name, ["test"])
        if not run.folder.exists():
            shutil.copytree(tiny_model, run.folder)
        return run

    runs = [start("whole"), start("broken")]
    runs[0].train(["decoder"])
    steps = iter(range(6))

    def dying(*given):
        if next(steps) == 4:
            raise RuntimeError("power cut")
        return decoder_objective(*given)

    with monkeypatch.context() as patch:
        patch.setattr("cdcd_video.training.pixel_stages.decoder_objective", dying)
        with pytest.raises(RuntimeError, match="power cut"):
            runs[1].train(["decoder"])
    start("broken").train(["decoder"])
    kept = [load_weights(run.out, "decoder", "ema") for run in runs]
    assert any(name.startswith("critic.") for name in kept[0])
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
    from safetensors.torch import load_file

    model = load_file(runs[0].folder / "codec.safetensors")
    assert not [name for name in model if "critic" in name]
    before = load_file(tiny_model / "codec.safetensors")
    moved = {name.split(".")[0] for name, value in model.items() if not torch.equal(value, before[name])}
    assert moved == {"decoder"}


def test_the_decoder_works_at_224_pixels():
    """ViT-B/16's 14 x 14 patches of 16 pixels; it begins by carrying the starting frame over."""
    cfg = CodecConfig(layers=(0,), projection_width=32, groups=1, decoder_width=32, decoder_layers=1, pixel_width=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        codec = Codec(cfg, clip_width=768, num_patches=196, joint_width=512, size_px=224)
    start = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    codes = codec.encode((torch.randn(2, 196, 768, generator=torch.Generator().manual_seed(4)),))
    assert codes.shape == (2, 196) and codec.num_tokens == 196
    with torch.no_grad():
        decoded = codec.decode(codes, start)
        carried = codec.decode(codes, 1 - start)
    assert decoded.shape == (2, 3, 224, 224)
    assert (decoded - start).abs().mean() < (decoded - (1 - start)).abs().mean()
    assert (carried - (1 - start)).abs().mean() < (carried - start).abs().mean()


def test_without_the_starting_frame_nothing_of_it_reaches_the_picture():
    """And the weights, their number and their first values, are those of a decoder that sees it."""
    cfg = CodecConfig(layers=(0,), projection_width=32, groups=1, decoder_width=32, decoder_layers=1, pixel_width=8)
    codecs = []
    for uses_start in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sizes = dict(clip_width=16, num_patches=16, joint_width=8, size_px=32)
            codecs.append(Codec(cfg, **sizes, uses_start=uses_start))
    with_start, without = codecs
    assert all(torch.equal(value, without.state_dict()[name]) for name, value in with_start.state_dict().items())
    codes = torch.randint(240, (2, 16), generator=torch.Generator().manual_seed(0))
    start = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(without.decode(codes, start), without.decode(codes, 1 - start))
        assert torch.equal(without.decode(codes, start), with_start.decode(codes, torch.full_like(start, 0.5)))
        assert not torch.equal(with_start.decode(codes, start), with_start.decode(codes, 1 - start))


def test_a_codec_without_the_starting_frame_is_not_reused_by_one_with_it(tmp_path, tiny_model):
    run = TrainingRun(tiny("picture.sees_start=false", f"reuse={tiny_model}"), tmp_path / "run", ["test"])
    with pytest.raises(
        UserError, match="picture.sees_start of .* is True, and this config's is False; make them equal"
    ):
        run.train([])
