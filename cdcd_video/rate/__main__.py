"""Human evaluation: raters compare videos without knowing which system made them."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code
from cdcd_video.rate.study import QUESTIONS, Recipe, Study, open_study
from cdcd_video.storage.folder_lock import folder_lock

PROGRAM = "python -m cdcd_video.rate"
EXAMPLE = "example: %s serve --study out/study --videos ours=out/ours --videos theirs=out/theirs --prompts prompts.tsv"


def parser(prog: str = PROGRAM) -> argparse.ArgumentParser:
    """The commands with their options; `prog` is how the program is called."""
    example = EXAMPLE % prog
    root = OptionParser(prog=prog, description=__doc__, epilog=example)
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)

    make = commands.add_parser("make", help="make a study from folders of videos", epilog=example)
    add_study(make)
    add_recipe(make)
    make.set_defaults(run=run_make)

    serve = commands.add_parser("serve", help="serve the rating page; makes the study if it is missing", epilog=example)
    add_study(serve)
    add_recipe(serve)
    add = serve.add_argument
    add(
        "--host",
        default="127.0.0.1",
        help="address to serve on, 0.0.0.0 for all (default: %(default)s); raters need a token unless it is local",
    )
    add("--port", type=int, default=8765, help="port, 0 for any free one (default: %(default)s)")
    add("--new-token", action="store_true", help="make a new token; earlier links stop working")
    serve.set_defaults(run=run_serve)

    backup = commands.add_parser("backup", help="copy the answers to a file, also while the page is served")
    add_study(backup)
    backup.add_argument("--out", type=Path, required=True, metavar="FILE", help="the copy; it must not exist")
    backup.set_defaults(run=run_backup)

    report = commands.add_parser("report", help="analyse the answers: report.html, report.md, report.json")
    add_study(report)
    add = report.add_argument
    add(
        "--scores",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="automatic scores: a table with system, item, metric, value, or NAME=scores.jsonl of an evaluation; may be repeated",
    )
    add("--out", type=Path, metavar="FILE.html", help="the page (default: report.html in the folder of the study)")
    add("--names", action="store_true", help="show the names of raters instead of R1, R2, ...")
    add("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    report.set_defaults(run=run_report)
    return root


def add_study(command: argparse.ArgumentParser) -> None:
    """The option that all commands share."""
    command.add_argument(
        "--study",
        type=Path,
        required=True,
        metavar="DIR_OR_YAML",
        help="folder of the study, or a .yaml file with its options (the folder is its name without .yaml)",
    )


def add_recipe(command: argparse.ArgumentParser) -> None:
    """The options that make a study."""
    defaults = Recipe()
    add = command.add_argument_group("options of a new study").add_argument
    add(
        "--videos",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="a system and the folder of its videos; repeat for every system",
    )
    add("--prompts", metavar="TABLE", help=".tsv, .csv or .jsonl with the columns file, prompt and optionally frame")
    add(
        "--frames-from", metavar="NAME", help="show the first frames of the videos of this system as given first frames"
    )
    add("--kind", choices=("pair", "single"), help=f"pairs side by side, or single videos (default: {defaults.kind})")
    add("--questions", nargs="+", choices=QUESTIONS, help="questions per page (default: all three)")
    add("--checks", type=int, metavar="N", help=f"attention checks per rater (default: {defaults.checks})")
    add("--repeats", type=int, metavar="N", help=f"items shown twice per rater (default: {defaults.repeats})")
    add("--tasks-per-rater", type=int, metavar="N", help="pages per rater, without checks and repeats (default: all)")
    add("--title", help=f"heading of the page (default: {defaults.title})")
    add("--seed", type=int, help="seed of the order and sides of every rater (default: 0)")


def recipe_of(options: argparse.Namespace) -> tuple[Recipe, Path]:
    """The recipe of the command line or the YAML file, and the root of its relative paths."""
    from pydantic import ValidationError

    from cdcd_video.config import config_file

    if options.study.suffix in (".yaml", ".yml"):
        if options.videos:
            raise UserError(f"{options.study} already has the options of the study; leave out --videos")
        return config_file.load(options.study, Recipe), options.study.parent
    videos = {}
    for text in options.videos:
        name, _, folder = text.partition("=")
        if not folder or name in videos:
            raise UserError(f"--videos {text} must be NAME=DIR with a new NAME")
        videos[name] = folder
    given = {name: getattr(options, name) for name in Recipe.model_fields if name != "videos"}
    try:
        return Recipe(videos=videos, **{name: value for name, value in given.items() if value is not None}), Path()
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"--{part}: ".replace("_", "-") for part in first["loc"][:1])
        raise UserError(f"{place}{first['msg'].removeprefix('Value error, ')}") from None


def folder_of(study: Path) -> Path:
    """The folder of the study, which may be named by its YAML file."""
    return study.with_suffix("") if study.suffix in (".yaml", ".yml") else study


def made(options: argparse.Namespace) -> Study:
    """Makes the study and prints a summary."""
    from cdcd_video.rate.prepare import make

    recipe, root = recipe_of(options)
    if not recipe.videos:
        open_study(folder_of(options.study))  # raises an error that says what is missing
    folder = folder_of(options.study)
    with folder_lock(folder):
        try:
            study = make(recipe, root, folder)
        except BaseException:
            for empty in (folder / "media", folder):  # what this attempt has left
                with contextlib.suppress(OSError):
                    empty.rmdir()
            raise
    say(f"{len(study.items)} items of {', '.join(study.systems)} in {folder_of(options.study)}")
    if study.left_out:
        say(f"left out, because a system has no video of them: {', '.join(study.left_out)}")
    return study


def run_make(options: argparse.Namespace) -> None:
    """Makes a study, and says what comes next."""
    made(options)
    say(f"serve it: {PROGRAM} serve --study {options.study}")


def run_serve(options: argparse.Namespace) -> None:
    """Serves the rating page until Ctrl-C."""
    from cdcd_video.rate import server
    from cdcd_video.rate.address import is_local, links, listen
    from cdcd_video.rate.answers import Store

    folder = folder_of(options.study)
    if (folder / "study.json").is_file():
        if options.videos:
            raise UserError(f"{folder} already holds a study; leave out --videos, or name another folder")
        study = open_study(folder)
    else:
        study = made(options)
    with (
        folder_lock(folder, shared=True),
        contextlib.closing(Store(folder / "answers.sqlite", study)) as store,
        listen(options.host, options.port) as opened,
    ):
        is_public = not is_local(opened.getsockname()[0])
        token = f"?token={store.token(renew=options.new_token)}" if is_public or options.new_token else ""
        app = server.create_app(study, store, folder, is_public=is_public)
        for link in links(opened):
            if is_public:
                say(f"Rate at {link}{token}")
            else:
                say(f"Rate at {link}  (this machine only; Ctrl-C stops the server, answers are kept)")
        if is_public:
            say("Anyone with this link can rate. The connection is not encrypted: use a trusted network or a tunnel.")
        server.serve(app, opened)


def run_backup(options: argparse.Namespace) -> None:
    """Copies the answers and prints the path of the copy."""
    from cdcd_video.rate.database import backup

    backup(folder_of(options.study) / "answers.sqlite", options.out)
    say(str(options.out))


def run_report(options: argparse.Namespace) -> None:
    """Writes the report and prints its paths."""
    from cdcd_video.rate import report

    folder = folder_of(options.study)
    open_study(folder)  # the lock would make the folder of one that is not there
    with folder_lock(options.out or folder / "report.html"):  # while a server shares the folder
        for path in report.write(folder, options.scores, options.out, names=options.names, seed=options.seed):
            say(str(path))


def say(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None, prog: str = PROGRAM) -> None:
    """The command.

    Args:
      arguments: the words of the command line; None: those of this process.
      prog: how the command is called.
    """
    options = parser(prog).parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    sys.exit(exit_code(main))
