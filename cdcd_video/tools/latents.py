"""Studies the latent space of a model: clusters by source image, trajectories, frames between frames. Writes a page."""

import argparse
import json
import sys
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code
from cdcd_video.storage.free_name import chosen_folder

PRINTED = (
    ("purity", "silhouette", "retrieval@1", "alignment", "uniformity"),
    ("caption_silhouette", "caption_retrieval@1", "caption_spread"),
    ("step_length", "curvature", "distance_to_real", "distance_to_own", "distance_in_time"),
    ("inbetween_psnr", "inbetween_object_psnr", "inbetween_position_error", "inbetween_identity_iou"),
)
"""Scores that are printed, in this order; the page and the JSON file have all."""


def main() -> None:
    parser = OptionParser(prog="python -m cdcd_video.tools.latents", description=__doc__)
    add = parser.add_argument
    add("--checkpoint", default="sprites", metavar="NAME_OR_DIR", help="a shipped model, or a model or run folder")
    add("--data", default="sprites", metavar="sprites|DIR", help="sprites, or a folder made by python -m data_prep")
    add("--split", choices=("val", "heldout", "train"), default="val")
    add("--num-images", type=int, default=16, metavar="S", help="source images (default: 16)")
    add("--captions-per-image", type=int, default=6, metavar="C", help="captions of each image (default: 6)")
    add("--num-bank", type=int, default=64, metavar="R", help="real videos of other images (default: 64)")
    add(
        "--num-frames",
        type=int,
        metavar="F",
        help="frames per video, the given one included (default: that of the model)",
    )
    add("--seed", type=int, default=0, help="seed of images, captions, sampling, k-means and intervals (default: 0)")
    add("--batch", type=int, default=32, metavar="B", help="videos sampled at a time (default: 32)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    add("--umap", action="store_true", help="add UMAP plots (needs umap-learn)")
    add("--out", type=Path, metavar="DIR", help="output folder (default: out/latents, or the next free name)")
    args = parser.parse_args()
    if args.seed < 0 or args.batch < 1 or args.num_bank < 0 or (args.num_frames or 3) < 3:
        raise UserError("--seed and --num-bank must be at least 0, --batch 1 and --num-frames 3")
    if args.num_images < 2 or args.captions_per_image < 2:
        raise UserError("--num-images and --captions-per-image must be at least 2")
    with chosen_folder(args.out, Path("out/latents")) as args.out:
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """Runs the study and writes to the folder `args.out`."""
    from tqdm import tqdm

    from cdcd_video.data import store
    from cdcd_video.data.shots import LongestShots
    from cdcd_video.engine import runtime
    from cdcd_video.evaluation.report import latent_page as page
    from cdcd_video.metrics.latent import counterfactuals, latent_study
    from cdcd_video.pipeline import ImageToVideo
    from cdcd_video.training import training_data

    pipe = ImageToVideo.from_pretrained(args.checkpoint, args.device)
    config, params = pipe.model.config, pipe.defaults(num_frames=args.num_frames, seed=args.seed)
    with runtime.writing_to(args.out):
        args.out.mkdir(parents=True, exist_ok=True)
    sizes = {"num_frames": params.num_frames, "size_px": pipe.size_px, "bank_size": args.num_bank}
    if args.data == "sprites":
        world = training_data.sprites_world(config.data) if config.data.kind == "sprites" else None
        chosen = {"fps": params.fps, "split": args.split, "world": world}
        cases = counterfactuals.SpritesCases(args.seed, args.num_images, args.captions_per_image, **sizes, **chosen)
    else:
        clips = LongestShots(store.StoredClips(args.data, args.split))
        params = params.changed(fps=clips.fps)
        cases = counterfactuals.ClipsCases(clips, args.num_images, args.captions_per_image, fps=clips.fps, **sizes)
    with tqdm(total=latent_study.frames_of_work(cases, params), desc="latents", unit="frame") as bar:
        dials = {"seed": args.seed, "batch_size": args.batch, "umap": args.umap}
        found = latent_study.study(pipe, cases, params, **dials, progress=bar.update)
    facts = {"data": args.data, "split": args.split, "seed": args.seed, "checkpoint": config.name}
    facts |= {"num_images": args.num_images, "captions_per_image": args.captions_per_image, "num_bank": cases.bank_size}
    facts |= {"model_sha256": pipe.model.digest, "drawing": params.described()}
    facts |= {"versions": pipe.settings("", params)["versions"]}
    with runtime.writing_to(args.out):
        runtime.replace_file(args.out / "latents.json", json.dumps({**facts, **found.record()}, allow_nan=False) + "\n")
        runtime.replace_file(args.out / "latents.html", page.page(found, facts))
    print(table(found.scores))
    print(args.out / "latents.json", args.out / "latents.html", sep="\n")


def table(scores) -> str:
    """The scores over all frames as text, one line per system and group."""
    from cdcd_video.evaluation.report.latent_tables import formatted

    lines = []
    for names in PRINTED:
        found = [score for score in scores if score.metric in names and score.frame is None]
        for group in dict.fromkeys(score.group for score in found):
            lines.append("\n" + " ".join(f"{name:>28}" for name in (group, *names)))
            inside = [score for score in found if score.group == group]
            for row in dict.fromkeys(score.row for score in inside):
                by_name = {score.metric: score for score in inside if score.row == row}
                cells = [" ".join(formatted(by_name.get(name))).strip() or "-" for name in names]
                lines.append(" ".join(f"{cell:>28}" for cell in (row, *cells)))
    return "\n".join(lines).lstrip("\n")


if __name__ == "__main__":
    sys.exit(exit_code(main))
