"""`python -m cdcd_video.rate {make|serve|backup|report}`: people compare videos without knowing whose they are."""

import argparse
import contextlib
import sys
from pathlib import Path

from cdcd_video.errors import UserError, exit_code
from cdcd_video.rate.study import QUESTIONS, Recipe, Study, open_study
from cdcd_video.storage.folder_lock import folder_lock

EXAMPLE = (
    "example: python -m cdcd_video.rate serve --study out/study --videos ours=out/ours --videos theirs=out/theirs"
    " --prompts prompts.tsv"
)


def parser() -> argparse.ArgumentParser:
    """The commands with their options."""
    root = argparse.ArgumentParser(prog="python -m cdcd_video.rate", description=__doc__, epilog=EXAMPLE)
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)

    make = commands.add_parser("make", help="makes a study of folders of videos", epilog=EXAMPLE)
    add_study(make)
    add_recipe(make)
    make.set_defaults(run=run_make)

    serve = commands.add_parser("serve", help="shows the rating page; makes the study when missing", epilog=EXAMPLE)
    add_study(serve)
    add_recipe(serve)
    add = serve.add_argument
    add(
        "--host",
        default="127.0.0.1",
        help="address to serve on, 0.0.0.0 for all; any but 127.0.0.1 and its like asks visitors for a token",
    )
    add("--port", type=int, default=8765, help="0: any free one (default: %(default)s)")
    add("--new-token", action="store_true", help="makes a new token, so that links given out before end")
    serve.set_defaults(run=run_serve)

    backup = commands.add_parser("backup", help="copies the answers into one file, also while they are being served")
    add_study(backup)
    backup.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to; nothing may be there yet")
    backup.set_defaults(run=run_backup)

    report = commands.add_parser("report", help="what the answers say: report.html, report.md, report.json")
    add_study(report)
    add = report.add_argument
    add(
        "--scores",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="automatic scores: a table with system, item, metric, value; or NAME=scores.jsonl of evaluate.py",
    )
    add("--out", type=Path, metavar="FILE.html", help="where to (default: report.html in the study's folder)")
    add("--names", action="store_true", help="shows raters by the names they gave, not as R1, R2, ...")
    add("--seed", type=int, default=0, help="of the redraws behind the intervals (default: 0)")
    report.set_defaults(run=run_report)
    return root


def add_study(command: argparse.ArgumentParser) -> None:
    """The option that all commands share."""
    command.add_argument(
        "--study",
        type=Path,
        required=True,
        metavar="DIR_OR_YAML",
        help="the study's folder, or a .yaml that says what it is made from (its folder is the name without .yaml)",
    )


def add_recipe(command: argparse.ArgumentParser) -> None:
    """What a study is made from."""
    defaults = Recipe()
    add = command.add_argument_group("what the study is made from").add_argument
    add("--videos", action="append", default=[], metavar="NAME=DIR", help="a system and the folder of its videos")
    add("--prompts", metavar="TABLE", help=".tsv, .csv or .jsonl with the columns file, prompt and perhaps frame")
    add("--frames-from", metavar="NAME", help="this system's videos begin with the starting picture; show that one")
    add("--kind", choices=("pair", "single"), help=f"side by side, or one by one (default: {defaults.kind})")
    add("--questions", nargs="+", choices=QUESTIONS, help="(default: all three)")
    add("--checks", type=int, metavar="N", help=f"attention checks per rater (default: {defaults.checks})")
    add("--repeats", type=int, metavar="N", help=f"items shown twice per rater (default: {defaults.repeats})")
    add("--tasks-per-rater", type=int, metavar="N", help="pages per rater, besides these (default: all)")
    add("--title", help=f"heading of the page (default: {defaults.title})")
    add("--seed", type=int, help="of every rater's order and sides (default: 0)")


def recipe_of(options: argparse.Namespace) -> tuple[Recipe, Path]:
    """The recipe of the command line or the YAML file, and where its relative paths begin."""
    from pydantic import ValidationError

    from cdcd_video.config import config_file

    if options.study.suffix in (".yaml", ".yml"):
        if options.videos:
            raise UserError(f"{options.study} says what the study is made from; leave out --videos")
        return config_file.load(options.study, Recipe), options.study.parent
    videos = {}
    for text in options.videos:
        name, _, folder = text.partition("=")
        if not folder or name in videos:
            raise UserError(f"--videos {text} must be NAME=DIR, each name once")
        videos[name] = folder
    given = {name: getattr(options, name) for name in Recipe.model_fields if name != "videos"}
    try:
        return Recipe(videos=videos, **{name: value for name, value in given.items() if value is not None}), Path()
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"--{part}: ".replace("_", "-") for part in first["loc"][:1])
        raise UserError(f"{place}{first['msg'].removeprefix('Value error, ')}") from None


def folder_of(study: Path) -> Path:
    """The study's folder, where it may have been named by its YAML file."""
    return study.with_suffix("") if study.suffix in (".yaml", ".yml") else study


def made(options: argparse.Namespace) -> Study:
    """Makes the study and says what came of it."""
    from cdcd_video.rate.prepare import make

    recipe, root = recipe_of(options)
    if not recipe.videos:
        open_study(folder_of(options.study))  # says what is missing
    with folder_lock(folder_of(options.study)):
        study = make(recipe, root, folder_of(options.study))
    say(f"{len(study.items)} items of {', '.join(study.systems)} in {folder_of(options.study)}")
    if study.left_out:
        say(f"left out, not made by every system: {', '.join(study.left_out)}")
    return study


def run_make(options: argparse.Namespace) -> None:
    """`make`."""
    made(options)


def run_serve(options: argparse.Namespace) -> None:
    """`serve`: until Ctrl-C."""
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
                say(f"Rate at {link}  (this machine only; Ctrl-C ends, answers are kept)")
        if is_public:
            say("Whoever has this link can rate. It is not encrypted: use a trusted network or a tunnel.")
        server.serve(app, opened)


def run_backup(options: argparse.Namespace) -> None:
    """`backup`: says where the copy is."""
    from cdcd_video.rate.database import backup

    backup(folder_of(options.study) / "answers.sqlite", options.out)
    say(str(options.out))


def run_report(options: argparse.Namespace) -> None:
    """`report`: prints the files it wrote."""
    from cdcd_video.rate import report

    folder = folder_of(options.study)
    with folder_lock(options.out or folder / "report.html"):  # while a server shares the folder
        for path in report.write(folder, options.scores, options.out, names=options.names, seed=options.seed):
            say(str(path))


def say(text: str) -> None:
    """One line for the user, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    options = parser().parse_args()
    options.run(options)


if __name__ == "__main__":
    sys.exit(exit_code(main))
