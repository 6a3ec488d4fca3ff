"""The config key `baseline` and its earlier name `rival`: both are read, and files keep the earlier one."""

from pathlib import Path

import pytest

from cdcd_video.config import Config, GaussianBaseline, config_file
from cdcd_video.config.model_digest import folder_digest
from cdcd_video.errors import UserError
from cdcd_video.tools.dry_run.sections import config_lines

WORLD = "name: x\ndata: {kind: sprites}\n"


@pytest.fixture
def write(tmp_path: Path):
    def to_file(text: str) -> Path:
        (tmp_path / "config.yaml").write_text(WORLD + text)
        return tmp_path / "config.yaml"

    return to_file


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("baseline: {kind: gaussian}\n", []),
        ("rival: {kind: gaussian}\n", []),
        ("", ["baseline.kind=gaussian"]),
        ("", ["rival.kind=gaussian"]),
        ("rival: {kind: autoregressive}\n", ["baseline.kind=gaussian"]),
        ("baseline: {kind: autoregressive}\n", ["rival.kind=gaussian"]),
        ("", ["baseline.kind=autoregressive", "baseline={kind: gaussian}"]),
    ],
)
def test_the_key_and_its_earlier_name_mean_the_same(write, text: str, overrides: list[str]):
    config = config_file.load(write(text), Config, overrides)
    assert config.baseline == GaussianBaseline()
    written = config_file.dump(config)
    assert "\nrival:\n  kind: gaussian\n" in written and "baseline" not in written, "as earlier versions wrote it"
    again = write("").with_name("again.yaml")
    again.write_text(written)
    assert config_file.load(again, Config) == config


def test_a_base_may_use_the_earlier_name(write):
    base = write("rival: {kind: autoregressive}\n")
    above = base.with_name("above.yaml")
    for value, wanted in {"{kind: gaussian}": GaussianBaseline(), "null": None}.items():
        above.write_text(f"base: config.yaml\nbaseline: {value}\n")
        assert config_file.load(above, Config).baseline == wanted


@pytest.mark.parametrize(
    ("text", "overrides", "place"),
    [
        ("rival: {kind: gaussian}\nbaseline: {kind: gaussian}\n", [], "config.yaml"),
        ("rival: null\nbaseline: {kind: gaussian}\n", [], "config.yaml"),
        ("", ["rival.kind=gaussian", "baseline.kind=gaussian"], "--set"),
    ],
)
def test_both_names_at_once_are_refused(write, text: str, overrides: list[str], place: str):
    with pytest.raises(
        UserError, match=f"{place}: `rival` is the earlier name of `baseline`, and both are given"
    ) as caught:
        config_file.load(write(text), Config, overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "overrides", "sentence"),
    [
        ("basline: {kind: gaussian}\n", [], "did you mean `baseline`?"),
        ("rivals: {kind: gaussian}\n", [], "did you mean `baseline`?"),
        ("", ["rivl.kind=gaussian"], "did you mean `baseline`?"),
        ("", ["baseline.knd=gaussian"], "`baseline.kind` is missing"),
        ("rival: {kind: gausian}\n", [], "config.yaml, where it is called `rival`.)"),
        (
            "rival: {kind: gausian}\n",
            [],
            '`baseline.kind` is "gausian", but must be autoregressive, categorical_flow or gaussian',
        ),
        ("", ["rival.kind=gausian"], "(From --set, where it is called `rival`.)"),
    ],
)
def test_mistakes_name_the_present_key(write, text: str, overrides: list[str], sentence: str):
    with pytest.raises(UserError) as caught:
        config_file.load(write(text), Config, overrides)
    assert sentence in str(caught.value)


def test_the_digest_of_a_model_is_that_of_earlier_versions(write):
    before = "6ddadc299c916407e15d09d21f50136ab98588e813ea8e9690016d003835ada8"
    assert folder_digest(write("rival: {kind: gaussian}\n").parent) == before
    assert folder_digest(write("baseline: {kind: gaussian}\n").parent) == before
    assert folder_digest(write("").parent) != before
    settings = (
        "quantized: false, times: uniform, times_mean: 0",
        "quantized: true",
        "times: logit_normal",
        "times_mean: 0.5",
    )
    found = [folder_digest(write(f"baseline: {{kind: gaussian, {one}}}\n").parent) for one in settings]
    assert found[0] == before and len({*found}) == len(settings), "a setting at its default is as if it were not there"
    assert folder_digest(write("baseline: {kind: gaussian}\nsample: {solver: heun}\n").parent) == before, (
        "told with each video"
    )


@pytest.mark.parametrize("key", ["baseline", "rival"])
def test_a_dry_run_prints_the_present_name(write, key: str):
    config = config_file.load(write(f"{key}: {{kind: gaussian}}\n"), Config)
    lines = "\n".join(config_lines(config, None))
    assert "\nbaseline:\n  kind:" in lines and "rival" not in lines
    printed = write("").with_name("printed.yaml")
    printed.write_text(lines)
    assert config_file.load(printed, Config) == config
