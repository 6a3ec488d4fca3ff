"""One side of `bench busy` in its own process: samples videos by the Python interface, as a user's script does."""

import json
import sys
import time

import numpy as np
import torch

from cdcd_video.data.sprites import sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.errors import exit_code
from cdcd_video.pipeline import ImageToVideo

SCENE_SEED = 20_000
"""Seed of the scenes."""


def main() -> int:
    """Samples the videos; prints the wall-clock time of loading and of sampling, and the number of threads."""
    request = json.loads(sys.argv[1])
    begin = time.perf_counter()
    pipe = ImageToVideo.from_pretrained(request["checkpoint"], "cpu")
    loaded = time.perf_counter()
    for number in range(request["videos"]):
        scene = sample_scene(SCENE_SEED, number, "val")
        pipe(render(scene, np.zeros(1), pipe.size_px)[0], scene.caption, seed=number)
    found = {"load_s": loaded - begin, "wall_s": time.perf_counter() - loaded, "cpu_s": time.process_time()}
    found |= {"torch_threads": torch.get_num_threads(), "threads": pipe.num_threads or torch.get_num_threads()}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
