"""Config files: layers join as said, and whatever a user writes ends in a config or in sentences."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from sweeps import examples

from cdcd_video.config import config_file
from cdcd_video.errors import UserError


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fsq(Section):
    kind: Literal["fsq"] = "fsq"
    levels: tuple[Annotated[int, Field(ge=2)], ...] = (8, 6, 5)


class Vq(Section):
    kind: Literal["vq"] = "vq"
    num_codes: Annotated[int, Field(ge=2)] = 256
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.9


class Train(Section):
    num_steps: Annotated[int, Field(ge=1)] = 1000
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    precision: Literal["bf16", "fp32"] = "fp32"
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    is_fused: bool = True

    @model_validator(mode="after")
    def _betas_in_order(self):
        if self.betas[0] > self.betas[1]:
            raise ValueError("the first of betas must not exceed the second")
        return self


class Stages(Section):
    codec: Train = Train(num_steps=300)
    diffusion: Train = Train(num_steps=9000, learning_rate=2e-3)


class Config(Section):
    name: str
    seed: Annotated[int, Field(ge=0)] = 0
    width: Annotated[int, Field(ge=32, multiple_of=32)] = 64
    quantizer: Annotated[Fsq | Vq, Field(discriminator="kind")] = Fsq(levels=(4, 4))
    train: Stages = Stages()
    extra: dict[str, int] = {}
    either: int | str = 3
    even: int = 2

    @field_validator("even")
    @classmethod
    def _is_even(cls, value):
        if value % 2:
            raise ValueError("only even numbers.")
        return value


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = "x.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def load(path: Path, *overrides: str) -> Config:
    return config_file.load(path, Config, overrides)


def mistakes(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(path, *overrides)
    return str(caught.value).replace(f"{path.parent}/", "")


# ------------------------------------------------------------------------------------------------- what is read


def test_a_file_over_the_defaults(write):
    config = load(write("name: a\ntrain:\n  codec: {learning_rate: 1e-4}\n"))
    assert config == Config(name="a", train=Stages(codec=Train(num_steps=300, learning_rate=1e-4)))


def test_a_part_of_a_section_keeps_the_defaults_of_its_place(write):
    config = load(write("name: a\nquantizer: {}\ntrain: {diffusion: {clip_norm: null}}"))
    assert config.train.diffusion.num_steps == 9000
    assert config.train.diffusion.learning_rate == 2e-3
    assert config.train.diffusion.clip_norm is None
    assert config.quantizer == Fsq(levels=(4, 4))


def test_later_layers_win(write):
    write("name: root\nseed: 1\nwidth: 32\nextra: {a: 1, b: 2}", "base/root.yaml")
    write("base: root.yaml\nseed: 2\nextra: {b: 3}", "base/middle.yaml")
    path = write("base: base/middle.yaml\nname: leaf\n")
    config = load(path, "extra.c=4", "train.codec.num_steps=7", "train.codec.num_steps=8")
    assert (config.name, config.seed, config.width) == ("leaf", 2, 32)
    assert config.extra == {"a": 1, "b": 3, "c": 4}
    assert config.train.codec.num_steps == 8


def test_another_kind_takes_nothing_over(write):
    write("name: a\nquantizer: {kind: fsq, levels: [9, 9]}", "root.yaml")
    path = write("base: root.yaml\nquantizer: {kind: vq, num_codes: 7}")
    assert load(path).quantizer == Vq(num_codes=7)
    assert load(path, "quantizer.decay=0.5").quantizer == Vq(num_codes=7, decay=0.5)
    assert load(path, "quantizer.kind=fsq").quantizer == Fsq(levels=(4, 4))
    assert load(path, "quantizer={kind: fsq, levels: [3]}").quantizer == Fsq(levels=(3,))
    for overrides in (("quantizer.kind=fsq", "quantizer.levels=[5]"), ("quantizer.levels=[5]", "quantizer.kind=fsq")):
        assert load(path, *overrides).quantizer == Fsq(levels=(5,)), "the order of the command line does not matter"


def test_a_kind_left_out_is_the_one_below(write):
    path = write("name: a\nquantizer: {levels: [9]}")
    assert load(path).quantizer == Fsq(levels=(9,))
    assert load(write("base: x.yaml\nquantizer: {kind: vq}", "y.yaml"), "quantizer.num_codes=5").quantizer == Vq(
        num_codes=5
    )


def test_an_empty_file_is_all_defaults(write):
    class Small(Section):
        seed: int = 4

    assert config_file.load(write("# nothing yet\n"), Small).seed == 4


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E+2", 100.0),
        ("+.5", 0.5),
        ("3", 3.0),
        ("5.", 5.0),
        ("010", 10.0),
        ("0x10", 16.0),
        ("0o17", 15.0),
    ],
)
def test_numbers(write, text, value):
    assert load(write("name: a"), f"train.codec.learning_rate={text}").train.codec.learning_rate == value


@pytest.mark.parametrize(
    "text", ["on", "no", "1:30", "2001-01-01", "1_000", "0b1", "e5", "1e", "<<", "=", "nan", "inf"]
)
def test_words_stay_words(write, text):
    assert load(write(f"name: {text}")).name == text


def test_what_is_dumped_is_read_back(write):
    config = load(write("name: '1e-4'\nextra: {on: 1, '2': 2}\neither: 'null'\nquantizer: {kind: vq, decay: 1e-9}"))
    text = config_file.dump(config)
    assert load(write(text, "again.yaml")) == config
    assert "betas: [0.9, 0.99]" in text
    assert text.startswith("name: '1e-4'\nseed: 0\n")


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(st.characters(codec="utf-8")).filter(lambda text: "${" not in text),
    rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    extra=st.dictionaries(st.text(st.characters(codec="utf-8")).filter(lambda text: "${" not in text), st.integers()),
)
def test_any_config_is_read_back(write, name, rate, extra):
    extra = {key: value for key, value in extra.items() if abs(value) < 10**18}
    config = Config(name=name, extra=extra, train=Stages(codec=Train(learning_rate=rate)))
    assert load(write(config_file.dump(config))) == config


def test_it_needs_no_torch():
    code = "import sys, cdcd_video.config.config_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parent.parent).returncode == 0


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("seed=-1", "`seed` is -1, but must be a whole number of at least 0."),
        ("seed=1.5", "`seed` is 1.5, but must be a whole number of at least 0."),
        ("seed=true", "`seed` is true, but must be a whole number of at least 0."),
        ("seed='3'", '`seed` is "3", but must be a whole number of at least 0.'),
        ("seed=", "`seed` is null, but must be a whole number of at least 0."),
        ("seed.deep=1", '`seed` is {"deep": 1}, but must be a whole number of at least 0.'),
        ("name=3", "`name` is 3, but must be text."),
        ("width=33", "`width` is 33, but must be a whole number of at least 32 divisible by 32."),
        ("either=[1]", "`either` is [1], but must be a whole number or text."),
        ("even=3", "`even`: only even numbers."),
        ("extra={a: b}", '`extra.a` is "b", but must be a whole number.'),
        ("extra=3", "`extra` is 3, but must be a mapping."),
        ("train=3", "`train` is 3, but must be a section with the keys codec, diffusion."),
        ("train.codec.is_fused=yes", '`train.codec.is_fused` is "yes", but must be true or false.'),
        ("train.codec.precision=fp16", '`train.codec.precision` is "fp16", but must be bf16 or fp32.'),
        ("train.codec.clip_norm=0", "`train.codec.clip_norm` is 0, but must be a number above 0 or null."),
        ("train.codec.clip_norm=.inf", "`train.codec.clip_norm` is inf, but must be a finite number."),
        ("train.codec.clip_norm=1e999", "`train.codec.clip_norm` is inf, but must be a finite number."),
        ("train.codec.betas=[1]", "`train.codec.betas.1` is missing; it must be a number."),
        ("train.codec.betas=[1, 2, 3]", "`train.codec.betas` is [1, 2, 3], but must be a list of length 2, each a number."),
        ("train.codec.betas=[1, 0]", "`train.codec`: the first of betas must not exceed the second."),
        ("quantizer.levels=[3, 1]", "`quantizer.levels.1` is 1, but must be a whole number of at least 2."),
        ("quantizer.levels=8", "`quantizer.levels` is 8, but must be a list, each a whole number of at least 2."),
        ("quantizer=8", "`quantizer` is 8, but must be a section whose `kind` is fsq or vq."),
        ("quantizer.kind=lfq", '`quantizer.kind` is "lfq", but must be fsq or vq.'),
        ("quantizer.kind=[1]", "`quantizer.kind` is [1], but must be fsq or vq."),
        ("quantizer={kind: vq, decay: 1}", "`quantizer.decay` is 1, but must be a number above 0 and below 1."),
        ("quantizer.decay=0.5", "`quantizer.decay` (value 0.5) is not a known key; it belongs to another `kind` of `quantizer`"),
        ("sead=3", "`sead` (value 3) is not a known key; did you mean `seed`?"),
        ("train.codec.num_step=3", "is not a known key; did you mean `train.codec.num_steps`?"),
        ("learning_rate=3", "is not a known key; did you mean `train.codec.learning_rate`?"),
        ("train.zebra=3", "`train.zebra` (value 3) is not a known key; the known keys are codec, diffusion."),
        ("name=${oc.env:HOME}", '`name` is "${oc.env:HOME}", but expressions are not supported; write the value itself.'),
        ("base=x.yaml", '`base` (value "x.yaml") is not a known key'),
    ],
)  # fmt: skip
def test_each_mistake_has_its_sentence(write, setting, sentence):
    text = mistakes(write("name: a"), setting)
    assert sentence in text
    assert text.startswith("x.yaml: `")
    assert text.endswith("(From --set.)")
    assert "\n" not in text


def test_all_mistakes_at_once(write):
    write("name: 3\nsead: 1\nquantizer: {kind: vq, decay: 2}", "root.yaml")
    text = mistakes(write("base: root.yaml\ntrain: {codec: {num_steps: 0}}"), "width=1")
    assert text.splitlines() == [
        "x.yaml has 5 mistakes:",
        "  `name` is 3, but must be text. (From root.yaml.)",
        "  `width` is 1, but must be a whole number of at least 32 divisible by 32. (From --set.)",
        "  `quantizer.decay` is 2, but must be a number above 0 and below 1. (From root.yaml.)",
        "  `train.codec.num_steps` is 0, but must be a whole number of at least 1.",
        "  `sead` (value 1) is not a known key; did you mean `seed`? (From root.yaml.)",
    ]


def test_missing_keys(write):
    assert mistakes(write("seed: 1")) == "x.yaml: `name` is missing; it must be text."

    class Chosen(Section):
        quantizer: Annotated[Fsq | Vq, Field(discriminator="kind")]

    with pytest.raises(UserError, match="`quantizer` is missing; it must be a section whose `kind` is fsq or vq."):
        config_file.load(write(""), Chosen)
    with pytest.raises(UserError, match="`quantizer.kind` is missing; it must be fsq or vq."):
        config_file.load(write("quantizer: {levels: [3]}"), Chosen)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "is not valid YAML: the key `a` is given twice (line 3, column 1)."),
        ("t: {a: 1, a: 1}", "the key `a` is given twice (line 1, column 11)."),
        ("a: [1", "is not valid YAML: expected ',' or ']'"),
        ("a: &x [1]\nb: *x", "aliases (*name) are not supported; write the value out (line 2, column 4)."),
        ("a: !!python/object/apply:os.system [ls]", "tags (!name) are not supported"),
        ("a: !!int x", "tags (!name) are not supported"),
        ("1: 2", "the key 1 is not text"),
        ("? [a]\n: 2", 'the key ["a"] is not text'),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "9" * 5000, "the number has too many digits"),
        ('a: "\\UFFFFFFFF"', "is not valid YAML"),
        ("a: \x07", "is not valid YAML"),
        ("a: 1\n---\nb: 1", "is not valid YAML"),
        ("- 1", "config x.yaml is not a mapping; write `key: value` lines."),
        ("just words", "is not a mapping"),
        (b"\xff\xfe\x00", "config x.yaml is not UTF-8 text"),
        ('name: "\\ud800"', "which is not valid Unicode"),
        ("base: 3", "x.yaml: `base` is 3, but must be the name of one YAML file."),
        ("base: [a.yaml, b.yaml]", "must be the name of one YAML file"),
        ('base: "a\\0b"', "cannot be read"),
    ],
)  # fmt: skip
def test_files_that_are_not_configs(write, text, words):
    said = mistakes(write(text))
    assert words in said
    assert "\n" not in said


def test_missing_files(write, tmp_path):
    write("name: a", "sprites.yaml")
    assert mistakes(tmp_path / "sprite.yaml") == "config sprite.yaml does not exist; did you mean sprites.yaml?"
    assert "is a folder, not a file" in mistakes(tmp_path)
    said = mistakes(write("base: zzz/none.yaml"))
    assert said == "config zzz/none.yaml (the `base` of x.yaml) does not exist; check the path."


def test_circles_and_depth(write):
    path = write("base: y.yaml")
    write("base: x.yaml", "y.yaml")
    assert mistakes(path) == "x.yaml -> y.yaml -> x.yaml: the `base` lines form a cycle; remove one of them."
    write("name: a", "0.yaml")
    for number in range(1, 5):
        write(f"base: {number - 1}.yaml\nseed: {number}", f"{number}.yaml")
    assert load(path.with_name("3.yaml")).seed == 3
    assert "4.yaml -> 3.yaml -> 2.yaml -> 1.yaml -> 0.yaml: the chain of `base` files is longer than 3" in mistakes(
        path.with_name("4.yaml")
    )


@pytest.mark.parametrize("text", ["seed", "", "=3", "a..b=3", ".a=3", "a.=3", "a b=3", "a[0]=3", "a." * 100 + "b=1"])
def test_overrides_of_another_form(write, text):
    said = mistakes(write("name: a"), text)
    assert said.startswith("--set ")
    assert "is not of the form section.key=value" in said


def test_an_override_that_is_not_yaml(write):
    assert 'the value of --set "seed=[1" is not valid YAML' in mistakes(write("name: a"), "seed=[1")


# --------------------------------------------------------------------------------------------------- anything at all

_WORDS = st.sampled_from(
    [
        "name",
        "seed",
        "width",
        "quantizer",
        "kind",
        "fsq",
        "vq",
        "levels",
        "num_codes",
        "decay",
        "train",
        "codec",
        "betas",
    ]
    + ["extra", "either", "base", "x.yaml", "on", "null", "1e-4", ".nan", "-1", "3", "0x1", "???", "${a}", "<<"]
)
_TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=12,
)


def _flow(tree) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key}: {_flow(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(_flow, tree)) + "]"
    return str(tree)


_MARKS = st.text(
    st.sampled_from(list("ab:{}[]-?,&*!|>'\"%@`#~\\ \n\t.=10e$") + ["\ud800", "\0", "\x85"]),
    max_size=40,
)
_FILES = (
    st.builds(lambda tree: _flow(tree)[1:-1], st.dictionaries(_WORDS, _TREES, max_size=5)) | _TREES.map(_flow) | _MARKS
)


_KEYS = ["seed", "width", "either", "even", "extra.a", "quantizer.kind", "quantizer.levels", "quantizer.num_codes"]
_KEYS += ["train.codec.num_steps", "train.diffusion.betas", "train.codec.clip_norm", "train.codec.precision"]
_LIKELY = st.builds(
    "{}={}".format, st.sampled_from(_KEYS), st.sampled_from(["4", "64", "0.5", "vq", "[3, 4]", "null", "x"])
)
_UNLIKELY = _MARKS | st.builds("{}.{}={}".format, _WORDS, _WORDS, _FILES)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.just("name: a") | _FILES | st.binary(max_size=30), overrides=st.lists(_LIKELY | _UNLIKELY, max_size=3))
def test_anything_is_a_config_or_a_sentence(write, text, overrides):
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    try:
        assert load(write(config_file.dump(config := load(write(raw), *overrides)))) == config
    except UserError as error:
        str(error).encode()
        assert len(str(error)) > 10
