"""Trains every stage that a config needs. Run the same command again to resume."""

import argparse
import sys
from pathlib import Path

from cdcd_video.errors import UserError, exit_code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config file, such as configs/tiny.yaml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="section.key=value",
        help="override one setting of the config; repeatable",
    )
    parser.add_argument("--out", type=Path, help="run folder (default: runs/ and the name in the config)")
    parser.add_argument(
        "--stages",
        nargs="+",
        metavar="STAGE",
        help="train only these stages: clip codec decoder eye diffusion refine (default: all)",
    )
    parser.add_argument(
        "--more-steps",
        type=int,
        metavar="N",
        help="continue a finished run: N more steps of its last stage, or of each in --stages",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved config, every tensor and the cost, and exit"
    )
    parser.add_argument(
        "--watch",
        nargs="+",
        metavar="NAME",
        help="loggers: tensorboard wandb trackio none (default: tensorboard where it is installed)",
    )
    parser.add_argument(
        "--shard",
        choices=("ddp", "fsdp"),
        default="ddp",
        help="under torchrun: replicate the model (ddp) or shard it (fsdp) (default: ddp)",
    )
    args = parser.parse_args()

    from cdcd_video.config import Config, config_file

    config = config_file.load(args.config, Config, args.set)
    out = args.out or Path("runs") / config.name
    if args.dry_run:
        from cdcd_video.tools import dry_run
        from cdcd_video.training.resolved import begun_in

        sys.stdout.write(dry_run.explain(config, begun_in(out)))
        return 0

    from cdcd_video.engine import distributed
    from cdcd_video.engine.watch import chosen
    from cdcd_video.training import training_run
    from cdcd_video.training.run_folder import with_more_steps, writing
    from cdcd_video.training.stage_order import STAGES

    watch = chosen(args.watch)
    unknown = set(args.stages or ()) - set(STAGES)
    if unknown:
        raise UserError(f"--stages names {sorted(unknown)[0]!r}; the stages are {', '.join(STAGES)}")
    if args.more_steps is not None:
        if args.more_steps < 1:
            raise UserError(f"--more-steps is {args.more_steps}; give at least 1")
        config = with_more_steps(config, out, args.stages, args.more_steps)
    with (
        distributed.joined(config.device),
        distributed.for_all(lambda: writing(out, args.stages or STAGES)),
    ):
        run = training_run.TrainingRun(config, out, sys.argv, watch=watch, shard=args.shard)
        run.train(args.stages)
        lacks = "" if run.can_sample else "; to sample, it needs a CLIP and a codec: set reuse to the run that has them"
        if distributed.is_main():
            sys.stdout.write(f"trained {config.name}; the model is {run.folder}{lacks}\n")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
