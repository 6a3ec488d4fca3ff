"""A mistake in an option is one sentence, in every command."""

from pathlib import Path

import pytest

from cdcd_video.config.option_parser import OptionParser

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def parser() -> OptionParser:
    parser = OptionParser(prog="it")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--split", choices=["train", "val"])
    commands = parser.add_subparsers()
    serve = commands.add_parser("serve")
    serve.add_argument("--port", type=int)
    serve.add_argument("--study", required=True)
    return parser


@pytest.mark.parametrize(
    "words, told",
    [
        (["--stps", "3"], "there is no option --stps; did you mean --steps?"),
        (["--stps=3"], "there is no option --stps; did you mean --steps?"),
        (["serve", "--study", "x", "--prt", "3"], "there is no option --prt; did you mean --port?"),
        (["--xyz"], "there is no option --xyz; it --help lists the options"),
        (["-q"], "nothing is known of -q; it --help lists the options"),
        (["--steps", "many"], "argument --steps: invalid int value: 'many'; it --help lists the options"),
        (["--steps"], "argument --steps: expected one argument; it --help lists the options"),
        (["serve", "--study", "x", "--", "--prt"], "nothing is known of --prt; it --help lists the options"),
        (["serve"], "the following arguments are required: --study; it serve --help lists the options"),
    ],
)
def test_a_mistake_is_one_sentence(parser, capsys, words, told):
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err) == (2, "", f"error: {told}\n")


def test_a_word_that_follows_no_option_is_named(capsys):
    with pytest.raises(SystemExit):
        OptionParser(prog="it").parse_args(["a.png"])
    assert capsys.readouterr().err == "error: nothing is known of a.png; it --help lists the options\n"


def test_what_is_right_is_parsed(parser):
    parsed = parser.parse_args(["--step", "3", "serve", "--study=x"])
    assert (parsed.steps, parsed.study, parsed.port) == (3, "x", None)


def test_what_a_command_hands_on_is_not_looked_up(parser):
    commands = next(action for action in parser._actions if action.dest == "==SUPPRESS==")
    commands.add_parser("run").add_argument("rest", nargs="...")
    assert parser.parse_args(["run", "that", "--stps", "3"]).rest == ["that", "--stps", "3"]


def test_every_command_has_this_parser():
    files = [file for folder in ("cdcd_video", "data_prep") for file in (ROOT / folder).rglob("*.py")]
    plain = [file.name for file in files if "argparse.ArgumentParser(" in file.read_text(encoding="utf-8")]
    assert plain == []
