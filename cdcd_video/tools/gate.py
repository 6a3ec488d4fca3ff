"""Measures single-step motion: whether an object moves as the caption says in one sampled step. Prints a line of JSON."""

import json
import sys

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.gate", description=__doc__)
    parser.add_argument("--checkpoint", default="sprites", help="a shipped name, a run folder or a model folder")
    parser.add_argument("--num-scenes", type=int, default=64, help="scenes of one object (default: %(default)s)")
    parser.add_argument("--split", choices=("val", "heldout", "train"), default="val")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes and of sampling")
    parser.add_argument("--steps", type=int, help="reverse steps per frame (default: that of the model)")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance (default: that of the model)")
    parser.add_argument("--temperature", type=float, help="sampling temperature (default: that of the model)")
    parser.add_argument("--batch", type=int, default=64, help="videos sampled at a time")
    args = parser.parse_args()
    if args.num_scenes < 1 or args.batch < 1:
        raise UserError("--num-scenes and --batch must be at least 1")

    from cdcd_video.data.sprites import sample_scene
    from cdcd_video.metrics.single_step import GATE_WORLD, gate
    from cdcd_video.pipeline import ImageToVideo

    pipe = ImageToVideo.from_pretrained(args.checkpoint)
    params = pipe.defaults(num_steps=args.steps, guidance=args.guidance, temperature=args.temperature, seed=args.seed)
    scenes = [sample_scene(args.seed, index, args.split, world=GATE_WORLD) for index in range(args.num_scenes)]
    figures = gate(pipe, scenes, params, batch_size=args.batch)
    settings = {"num_steps": params.num_steps, "guidance": params.guidance, "temperature": params.temperature}
    line = {"model_sha256": pipe.model.digest, "scenes": len(scenes), "split": args.split, "seed": args.seed}
    sys.stdout.write(json.dumps(line | settings | figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
