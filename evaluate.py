"""Measures a model beside its floor and its ceiling; writes scores.jsonl and report.html, prints a short table."""

import argparse
import functools
import sys
from dataclasses import asdict, replace
from pathlib import Path

from cdcd_video.errors import UserError, exit_code
from cdcd_video.metrics.scores import METRICS, checked_metrics


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        "--metrics", nargs="+", metavar="METRIC", help=f"some of: {', '.join(METRICS)} (default: all that fit the data)"
    )
    add("--checkpoint", default="sprites", metavar="NAME_OR_DIR", help="a shipped model, or a model or run folder")
    add("--data", default="sprites", metavar="sprites|DIR", help="sprites, or a folder made by python -m data_prep")
    add("--num-videos", type=int, default=64, metavar="N", help="how many (default: 64; sprites are drawn twice)")
    add("--split", choices=("val", "heldout"), default="val", help="which clips; heldout: unseen pairs of words")
    add("--num-frames", type=int, default=16, metavar="F", help="frames, the given one included (default: 16)")
    add("--seed", type=int, default=0, help="of the scenes, the drawing and the intervals (default: 0)")
    add("--steps", dest="num_steps", type=int, metavar="S", help="reverse steps per frame (default: the model's)")
    add("--guidance", type=float, metavar="G", help="how much the sentence is stressed (default: the model's)")
    add("--temperature", type=float, metavar="T", help="of the draw of codes (default: the model's)")
    add("--batch", type=int, default=32, metavar="B", help="videos drawn at a time (default: 32)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")
    add(
        "--out", type=Path, metavar="DIR", help="for the results, which are replaced (default: run folder, or out/eval)"
    )
    args = parser.parse_args()
    args.metrics = checked_metrics(args.metrics, has_scenes=args.data == "sprites")
    if args.num_videos < 1 or args.batch < 1 or args.num_frames < 2 or args.seed < 0:
        raise UserError("--num-videos and --batch must be at least 1, --num-frames 2 (the first is given), --seed 0")
    return args


def main() -> None:
    args = parse_arguments()

    from tqdm import tqdm

    from cdcd_video import build, model, report
    from cdcd_video.data import sprites, store
    from cdcd_video.engine import runtime
    from cdcd_video.generate import ImageToVideo
    from cdcd_video.metrics import suite

    pipe = ImageToVideo.from_pretrained(args.checkpoint, args.device)
    config, dials = pipe.model.config, ("num_frames", "num_steps", "guidance", "temperature", "seed")
    drawing = pipe.defaults(**{dial: getattr(args, dial) for dial in dials})
    is_run = model.folder_of(args.checkpoint) == Path(args.checkpoint) / "model"
    out = args.out or (Path(args.checkpoint) if is_run else Path("out/eval"))
    with runtime.writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
    if args.data == "sprites":
        world = build.sprites_world(config) if config.data.kind == "sprites" else sprites.World()
        chosen, world = suite.choose_scenes(args.seed, args.num_videos, args.split, world, drawing)
        evaluate = functools.partial(suite.evaluate_sprites, world=world)
    else:
        clips = store.StoredClips(args.data, args.split)
        chosen = suite.choose_clips(clips, args.num_videos, args.num_frames, pipe.size_px)
        evaluate, drawing = functools.partial(suite.evaluate_clips, clips=clips), replace(drawing, fps=clips.fps)
    seeds = [runtime.seed_for(args.seed, "evaluate", index) for index in range(len(chosen))]
    total = suite.frames_to_draw(len(chosen), drawing, args.metrics)
    with tqdm(total=total, desc="drawing", unit="frame") as bar:
        dials = {"metrics": args.metrics, "batch_size": args.batch, "seed": args.seed, "progress": bar.update}
        found = evaluate(pipe, chosen, drawing, seeds, **dials)
    facts = {"data": args.data, "split": args.split, "seed": args.seed, "checkpoint": config.name}
    facts |= {"model_sha256": pipe.model.digest, "drawing": asdict(drawing)}
    facts |= {"versions": pipe.settings("", drawing)["versions"]}
    paths = report.write(found, facts, out)
    sys.stdout.write("\n".join([report.terminal_table(found.scores), *map(str, paths), ""]))


if __name__ == "__main__":
    sys.exit(exit_code(main))
