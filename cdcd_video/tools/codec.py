"""The figures of a model's codec on validation clips, beside what its CLIP knows; prints one line of JSON.

On sprites "object" means the true objects; on a prepared folder, whatever differs from the clip's first frame.
"""

import functools
import json
import math
import sys
from typing import Any

import numpy as np

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code


def _plain(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return round(value, 4) if math.isfinite(value) else None


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.codec", description=__doc__)
    parser.add_argument("--checkpoint", default="sprites", help="a shipped name, a run folder or a model folder")
    parser.add_argument("--num-clips", type=int, default=96, help="number of validation clips")
    args = parser.parse_args()
    if args.num_clips < 1:
        raise UserError("--num-clips must be at least 1")

    from cdcd_video.data.buckets import mean_figures, spread
    from cdcd_video.data.sprites import truth
    from cdcd_video.data.sprites_render import render_object_mask
    from cdcd_video.metrics.latent.space import space_metrics
    from cdcd_video.model import load_model
    from cdcd_video.tools.probe import motion_probe
    from cdcd_video.training.codec_metrics import Neighbours, codec_metrics_of
    from cdcd_video.training.training_data import open_clips

    model = load_model(args.checkpoint)
    clips = open_clips(model.config, "val")

    def object_mask(of_size: Any, clip: int, frame: int) -> np.ndarray:
        scene, size_px = of_size.scene(clip), of_size.size_px
        known = truth(scene, np.array([frame / of_size.fps]))
        masks = [
            render_object_mask(
                sprite.shape, known.centres[i], known.radii[i], known.angles_rad[i], size_px, view=scene.view
            )[0]
            for i, sprite in enumerate(scene.objects)
        ]
        return np.max(masks, axis=0) > 0.5

    def space_of(at: Neighbours) -> dict[str, float]:
        known = {
            f"clip_{name}": x for name, x in space_metrics(at.clip_embedding, at.values, at.text_embedding).items()
        }
        del known["clip_value_near_ratio"]  # CLIP has no codes
        return space_metrics(at.embedding, at.values, at.text_embedding) | known

    is_sprites = model.config.data.kind == "sprites"
    num_clips = min(args.num_clips, len(clips))
    found = []
    for of_size, numbers in spread(clips, num_clips):
        mask = functools.partial(object_mask, of_size) if is_sprites else None
        found.append(codec_metrics_of(model.codec, model.clip, of_size, len(numbers), mask, space_of))
    figures = mean_figures(found)
    line = {"model_sha256": model.digest, "clips": num_clips, **{name: _plain(x) for name, x in figures.items()}}
    if is_sprites:
        line["motion_probe"] = motion_probe(model.clip)
    sys.stdout.write(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
