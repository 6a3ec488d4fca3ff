"""Trains and evaluates every open cell of an ablation, then writes a table of all finished cells.

Run it again to continue; run it in a second terminal, or on another machine that shares the folder, to share the work.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.config.setting_words import add_setting_flag, with_flags
from cdcd_video.config.shipped_files import named_file
from cdcd_video.errors import UserError, exit_code, require


def main(arguments: Sequence[str] | None = None, prog: str = "python -m cdcd_video.ablate") -> None:
    """The command.

    Args:
      arguments: the words of the command line; None: those of this process.
      prog: how the command is called.
    """
    parser = OptionParser(prog=prog, description=__doc__)
    add = parser.add_argument
    what = "an ablation: a file, or the name of one of configs/ablations"
    add("config", type=named_file("configs", "ablations"), metavar="CONFIG", help=what)
    add_setting_flag(parser, "override a field of the ablation")
    add("--out", type=Path, metavar="DIR", help="folder of the cells (default: runs/ablations/NAME)")
    add("--only", nargs="+", default=[], metavar="ARM", help="only cells of these arms")
    add("--batch", type=int, default=64, metavar="B", help="videos sampled at a time (default: 64)")
    add("--dry-run", action="store_true", help="show the open cells and their cost, then stop")
    add("--table", action="store_true", help="train nothing; write the table of the finished cells")
    args = parser.parse_args(with_flags(arguments))
    require("cv2", "matplotlib", extra="eval")  # now, and not after the first cell is trained
    if args.batch < 1:
        raise UserError(f"--batch is {args.batch}; it must be at least 1")

    from cdcd_video.ablate import plan as plans

    plan = plans.read(args.config, args.set, args.out)
    unknown = sorted(set(args.only) - set(plan.arms))
    if unknown:
        raise UserError(f"--only names {unknown[0]!r}, which is not an arm; choose from {', '.join(plan.arms)}")

    from cdcd_video.ablate import cell, cost, declaration, page, power_page
    from cdcd_video.storage.folder_lock import folder_lock

    declaration.check(plan)

    wanted = [one for one in plan.cells if not args.only or one.arm.name in args.only]
    if not args.table:
        open_cells = [one for one in wanted if not cell.is_done(plan, one.folder)]
        if plan.ablation.endpoints:
            say(*power_page.before(plan), "")
        say(cost.table(plan, open_cells))
        if args.dry_run:
            return
        command = sys.argv if arguments is None else [*prog.split(), *arguments]
        with folder_lock(plan.out, wait=say):
            declaration.begin(plan)
        work(plan, open_cells, args.batch, command)
    with folder_lock(plan.out, wait=say):  # the cells have locks of their own
        say(*map(str, page.write(plan)))


def work(plan, cells, batch_size: int, command: Sequence[str]) -> None:
    """Runs the cells that no other process has claimed."""
    from cdcd_video.ablate import bases, cell

    bases.train_all(plan, cells, command, say)
    for one in cells:
        with cell.claimed(one.folder) as is_ours:
            if not is_ours:
                say(f"{one.folder.name}: claimed by another process")
            elif not cell.is_done(plan, one.folder):
                say(f"{one.folder.name}: started")
                bases.begin_with_base(plan, one)
                cell.run(plan, one, command, batch_size)
        references = plan.out / cell.REFERENCE_FOLDER
        with cell.claimed(references) as is_ours:
            if is_ours and cell.is_done(plan, one.folder) and not cell.is_done(plan, references):
                cell.run_references(plan, one, batch_size)


def say(*lines: str) -> None:
    """Prints lines at once, also where stdout is a file."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(exit_code(main))
