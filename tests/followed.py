"""What docs/extending.md promises of its five examples, in a process of `children` that has the package `my_video`.

The first word of the command says where the package is; the others go to the command of the project that is run.
"""

import importlib
import os
import sys
from pathlib import Path

import numpy as np
import torch

from cdcd_video import ImageToVideo
from cdcd_video.config import BASELINES, CONTRAST_TERMS, PROCESSES, ContrastConfig
from cdcd_video.metrics.scores import METRICS
from data_prep.recipes import RECIPES

REGISTRIES = (PROCESSES, CONTRAST_TERMS, METRICS, BASELINES, RECIPES)


def installed() -> None:
    """Makes the package importable and its entry points known, as an installation before this process began would have."""
    site, *words = sys.argv[1:]
    sys.path.insert(0, site)
    importlib.invalidate_caches()
    for registry in REGISTRIES:
        registry.look_again()
    assert "my_video" not in sys.modules
    sys.argv[1:] = words


def train() -> int:
    """`python train.py`."""
    installed()
    return importlib.import_module("train").main()


def evaluate() -> int:
    """`python evaluate.py`."""
    installed()
    return importlib.import_module("evaluate").main()


def prepare() -> int:
    """`python -m data_prep`."""
    installed()
    return importlib.import_module("data_prep.__main__").main()


def sample() -> int:
    """A run's model samples a video of two frames, and says what of its settings is not used."""
    installed()
    run, *unused = sys.argv[1:]
    pipe = ImageToVideo.from_pretrained(run, "cpu")
    params = pipe.defaults(num_frames=2, num_steps=3)
    video = pipe(np.full((32, 32, 3), 90, np.uint8), "it moves left", num_frames=2, num_steps=3)
    assert np.asarray(video.frames).shape == (2, 32, 32, 3)
    told = pipe.warnings("it moves left", params)
    assert all(any(f"{name} has no effect" in line for line in told) for name in unused), told
    sys.stdout.write(f"{type(pipe.model.process).__name__} {pipe.model.config.diffusion.process}\n")
    return 0


def has_gradient() -> int:
    """The term of the page pulls the predicted frame to its first frame, and is 0 where every clip is the same."""
    installed()
    from together import code_pair, codec

    from cdcd_video.contrast_terms import contrast_terms

    cfg = ContrastConfig(extra={"first_frame": 0.5}, share=1.0)
    batch, space = code_pair(0), codec().requires_grad_(False)
    logits = torch.zeros(*batch.target.shape, space.num_codes, requires_grad=True)
    (term,) = contrast_terms(logits, None, batch, space, cfg, None, None).values()
    term.weighted.backward()
    assert float(term.weighted.detach()) == 0.5 * float(term.nats.detach()) > 0
    assert float(logits.grad.abs().max()) > 0
    sys.stdout.write(f"{Path(os.fspath(sys.modules['my_video.first_frame'].__file__)).name}\n")
    return 0
