"""A copy of the project, in which docs/rivals.md was followed: its new rival is built, learns, is kept and draws.

Runs in a process of `children`, in the folder of the copy.
"""

import sys
from pathlib import Path

import numpy as np
import torch


def main() -> int:
    """What the copy's own modules do; those of the project itself are forgotten first."""
    for name in [name for name in sys.modules if name.partition(".")[0] in {"cdcd_video", "train", "evaluate"}]:
        del sys.modules[name]
    sys.path.insert(0, str(Path.cwd()))
    import cdcd_video
    from cdcd_video.baselines.build import num_parameters
    from cdcd_video.config import Config, config_file
    from cdcd_video.model import Model, build_codec, build_denoiser, load_module, save_module
    from cdcd_video.networks.clip import FrozenClip
    from cdcd_video.pipeline import ImageToVideo
    from cdcd_video.records import CodePair, RowGenerator

    assert Path(cdcd_video.__file__).is_relative_to(Path.cwd())
    space, *changes = sys.argv[1:]
    config = config_file.load(Path("configs/tiny.yaml"), Config, changes)
    clip = FrozenClip(Path(space) / "clip")
    codec = load_module(build_codec(config, clip), Path(space) / "codec.safetensors").eval()
    rival = build_denoiser(config, codec, clip.text_width)
    ours = build_denoiser(config.model_copy(update={"rival": None}), codec, clip.text_width)
    assert type(rival).__name__ == "Pointwise" and abs(num_parameters(rival) / num_parameters(ours) - 1) < 0.02

    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(codec.num_codes, (5, 4, codec.num_tokens), generator=generator)
    time, places = torch.full((4,), 0.1), torch.arange(4)
    known = dict(gap_s=time, age_s=time, before_gap_s=time, has_first=places > 0, clip=places, caption=places)
    known |= dict(zip(("source", "target", "first", "far", "before"), codes, strict=True))
    batch = CodePair(text=clip.read(["it moves left"] * 4), **known)
    optimiser, losses = torch.optim.Adam(rival.parameters(), 0.01), []
    rival.see(batch.source)
    for _ in range(5):
        terms = rival.learn(batch, config.diffusion, config.loss, RowGenerator(generator), own_share=0.5)
        optimiser.zero_grad()
        terms.total.backward()
        optimiser.step()
        losses.append(terms.total.item())
    assert losses[-1] < losses[0]

    save_module(rival, Path("rival.safetensors"))
    again = load_module(build_denoiser(config, codec, clip.text_width), Path("rival.safetensors")).eval()
    whole = Model(config, clip, codec, again, digest="")
    video = ImageToVideo(whole)(np.full((32, 32, 3), 90, np.uint8), "it moves left")
    assert np.asarray(video.frames).shape == (2, 32, 32, 3)
    return 0
