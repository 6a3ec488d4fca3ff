"""Measures the motion in roll-outs of trained models, by the metric of the training alarm."""

import sys
import tempfile
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import exit_code


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.frozen", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="shipped models, model folders or run folders")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    args = parser.parse_args()

    import torch

    from cdcd_video.data.buckets import buckets_of, mean_figures, size_of
    from cdcd_video.data.cache import CodeCache
    from cdcd_video.data.cache_writer import write_cache
    from cdcd_video.engine.runtime import device_for
    from cdcd_video.metrics.latent import health
    from cdcd_video.pipeline import ImageToVideo
    from cdcd_video.training import rollout_health, training_data
    from cdcd_video.training.latent_encoder import FrameEncoder

    device = device_for(args.device)
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            pipe = ImageToVideo.from_pretrained(name, str(device))
            model, config = pipe.model, pipe.model.config
            frame_encoder = FrameEncoder(config, model.clip, model.codec, device)
            most, figures = training_data.longest_of(config.data), []
            for clips in buckets_of(training_data.open_clips(config, "val")):
                facts = dict(data=clips.digest(), num_items=len(clips), fps=clips.fps, size=size_of(clips))
                plan = frame_encoder.plan(**facts, max_frames=most, recipe={})
                cache = Path(folder, plan.codes, plan.data)  # models of one codec and the same clips share it
                if not cache.exists():
                    write_cache(cache, clips, frame_encoder.encoder(), plan, frame_encoder.space(), split="val")
                with torch.no_grad():
                    figures.append(
                        rollout_health.roll_outs(pipe.sampler, model.codec, config, CodeCache(cache), device)
                    )
            found = mean_figures(figures)
            ratio = found.get("rolled_motion_ratio")
            value = "none (its clips have no motion)" if ratio is None else f"{ratio:.3f}"
            print(
                f"{Path(name).name:<24} rolled_motion_ratio {value}", *health.alarms(found, 1.0), sep="  ", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
