"""Samples the videos of one point of `bench recipe`, in a process of its own with either side's code.

It uses only what the code of both commits has: `ImageToVideo`, scenes of the first world, and `exit_code`.
"""

import json
import sys
from pathlib import Path

from cdcd_video.errors import exit_code

BATCH = 32
"""Videos that are sampled together."""


def main() -> int:
    """Reads one JSON request and writes the videos, uint8 (videos, F, H, W, 3)."""
    import numpy as np
    from safetensors.torch import load_file

    from cdcd_video.data.sprites import sample_scene
    from cdcd_video.data.sprites_render import render
    from cdcd_video.pipeline import ImageToVideo

    request = json.loads(sys.argv[1])
    pipe = ImageToVideo.from_pretrained(request["model"], "cpu")
    if request["weights"]:
        pipe.model.denoiser.load_state_dict(load_file(request["weights"]))
    scenes = [sample_scene(request["seed"], number, "train") for number in range(request["videos"])]
    starts = np.stack([render(scene, np.zeros(1), pipe.size_px)[0] for scene in scenes])
    params = pipe.defaults(num_frames=request["frames"], fps=request["fps"])
    videos = []
    for begin in range(0, len(scenes), BATCH):
        part = slice(begin, begin + BATCH)
        captions = [scene.caption for scene in scenes[part]]
        videos.append(pipe.sample(starts[part], captions, params, list(range(begin, begin + len(captions)))))
    path = Path(request["out"])
    np.save(path.with_name("part.npy"), np.concatenate(videos))
    path.with_name("part.npy").replace(path)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
