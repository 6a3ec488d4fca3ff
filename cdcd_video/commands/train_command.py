"""Trains every stage that a config needs. Run the same command again to resume."""

import sys
from collections.abc import Sequence
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.config.setting_words import add_setting_flag, with_flags
from cdcd_video.config.shipped_files import named_file
from cdcd_video.errors import UserError


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """`train.py`, and `cdcd-video train`.

    Args:
      arguments: the words of the command line; None: those of this process.
      prog: how the command is called; None: as this process.
    """
    parser = OptionParser(prog=prog, description=__doc__)
    add = parser.add_argument
    what = "config file, such as configs/tiny.yaml" if prog is None else "config file, or name of a shipped one: tiny"
    add("--config", type=named_file("configs"), required=True, help=what)
    add_setting_flag(parser, "override a setting of the config")
    add("--out", type=Path, help="run folder (default: runs/ and the name in the config)")
    stages = "train only these stages: clip codec decoder eye diffusion refine (default: all)"
    add("--stages", nargs="+", metavar="STAGE", help=stages)
    more_steps = "continue a finished run: N more steps of its last stage, or of each in --stages"
    add("--more-steps", type=int, metavar="N", help=more_steps)
    add("--dry-run", action="store_true", help="print the resolved config, every tensor and the cost, and exit")
    loggers = "loggers: tensorboard wandb trackio none (default: tensorboard where it is installed)"
    add("--watch", nargs="+", metavar="NAME", help=loggers)
    shard = "under torchrun: replicate the model (ddp) or shard it (fsdp) (default: ddp)"
    add("--shard", choices=("ddp", "fsdp"), default="ddp", help=shard)
    args = parser.parse_args(with_flags(arguments))

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
        config = with_more_steps(config, out, args.stages, args.more_steps)
    with (
        distributed.joined(config.device),
        distributed.for_all(lambda: writing(out, args.stages or STAGES)),
    ):
        called = sys.argv if prog is None else [*prog.split(), *(arguments or ())]
        run = training_run.TrainingRun(config, out, called, watch=watch, shard=args.shard)
        run.train(args.stages)
        lacks = "" if run.can_sample else "; to sample, it needs a CLIP and a codec: set reuse to the run that has them"
        if distributed.is_main():
            sys.stdout.write(f"trained {config.name}; the model is {run.folder}{lacks}\n")
    return 0
