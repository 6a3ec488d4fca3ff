"""Models and CLIPs of strangers: numbers, configs and tokenizers that lead astray are told in one sentence when they are read."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_model import ROOT
from safetensors.torch import load_file, save_file
from test_engine import Toy, go

from cdcd_video import ImageToVideo
from cdcd_video.config import Config, config_file
from cdcd_video.engine import checkpoint
from cdcd_video.errors import UserError
from cdcd_video.metrics.features import offline
from cdcd_video.model import save_module
from cdcd_video.networks.clip import FrozenClip, built_in, split_words
from cdcd_video.networks.clip.token_growth import MOST_CHARACTERS, growth_of
from cdcd_video.storage.tensor_file import MOST_IN_16_BITS, find_fault, read_tensors
from cdcd_video.training.training_run import TrainingRun

Change = Callable[[Any], Any]


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture
def tower(model: Path) -> Path:
    return model / "clip"


def with_value(file: Path, value: float, name: str | None = None) -> str:
    """Puts one number into a tensor of a file, in 32 bits; returns the tensor's name."""
    tensors = load_file(file)
    name = name or next(key for key in sorted(tensors) if tensors[key].ndim > 1)
    tensors = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    tensors[name].view(-1)[-1] = value
    save_file(tensors, file, {"format": "pt"})
    return name


def edit(file: Path, change: Change) -> None:
    held = json.loads(file.read_text())
    file.write_text(json.dumps(change(held) or held))


# ------------------------------------------------------------------------------------------------------- the numbers


def test_a_fault_is_found_wherever_it_is_and_nothing_else():
    good = {"a": torch.tensor([-MOST_IN_16_BITS, 0.0]), "whole": torch.tensor([2**40]), "none": torch.zeros(0)}
    for kind in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        assert (
            find_fault({name: value if name != "a" else value.to(kind) for name, value in good.items()}, 65_536) is None
        )
        for value in (math.nan, math.inf, -math.inf):
            odd = torch.zeros(3, 5, dtype=kind)
            odd[1, 2] = value
            found = find_fault(good | {"b": odd}, 65_536)
            assert found.tensor == "b" and (found.value == value or math.isnan(value))
    assert find_fault({"b": torch.tensor([65_504.0])}, MOST_IN_16_BITS) is None
    assert find_fault({"b": torch.tensor([-65_520.0])}, MOST_IN_16_BITS).value == -65_520
    assert find_fault({"b": torch.tensor([1e300], dtype=torch.float64)}) is not None
    assert find_fault({"bn.running_var": torch.tensor([1.0, -0.1])}).tensor == "bn.running_var"
    assert find_fault({"step/logit_scale": torch.tensor(20.0)}) is None, "so many steps of the optimiser"
    assert find_fault({"clip.logit_scale": torch.tensor(12.0)}) is not None
    assert find_fault({"logit_scale": torch.tensor(4.6052)}) is None and find_fault({"logit_scale": torch.tensor(12.0)})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("file", ["codec.safetensors", "denoiser.safetensors", "clip/model.safetensors"])
def test_unusable_weights_are_reported_when_a_model_is_read(file: str, value: float, model: Path):
    name = with_value(model / file, value)
    if (
        file.startswith("clip") and value == 1e30
    ):  # finite in 32 bits: told by what it makes of a picture and a sentence
        name = "holds"
    with pytest.raises(
        UserError, match=rf"(?s)clip.* cannot be used .*{name}|{file} cannot be used .*tensor {name} holds"
    ):
        ImageToVideo.from_pretrained(model, "cpu")


def test_so_is_the_scale_of_a_clips_logits(tower: Path):
    for value in (math.nan, math.inf, 65_504.0):
        with_value(tower / "model.safetensors", value, "logit_scale")
        with pytest.raises(UserError, match=r"model.safetensors cannot be used .tensor logit_scale holds"):
            FrozenClip(tower)


@pytest.mark.parametrize("name", offline.NETWORKS)
def test_so_are_those_of_the_networks_that_look(name: str, tmp_path: Path):
    for tensor, value in (("trunk.0.0.weight", math.nan), ("trunk.1.1.running_var", -1.0)):
        file = Path(shutil.copy(offline.FOLDER / f"{name}.safetensors", tmp_path))
        with_value(file, value, tensor)
        with pytest.raises(UserError, match=rf"{name}.safetensors cannot be used .tensor {tensor} holds"):
            offline.load(name, tmp_path)


def test_what_16_bits_cannot_hold_is_never_written(tiny_model: Path, tmp_path: Path):
    net = torch.nn.Linear(2, 2)
    (tmp_path / "x.safetensors").write_bytes(b"before")
    for value in (1e5, math.nan):
        with torch.no_grad():
            net.weight[1, 0] = value
        with pytest.raises(
            UserError, match=r"x.safetensors cannot be used .tensor weight holds .* nothing was written"
        ):
            save_module(net, tmp_path / "x.safetensors")
        with pytest.raises(UserError, match="nothing was written"):
            built_in.save_clip(net, None, [], tmp_path / "clip")
    assert os.listdir(tmp_path) == ["x.safetensors"] and (tmp_path / "x.safetensors").read_bytes() == b"before"


def test_a_run_whose_weights_went_wrong_keeps_its_good_checkpoints(tmp_path: Path):
    """The loss is still finite in the step that ruins a weight."""

    class Ruined(Toy):
        def batch(self, step):
            if step >= 25:
                self.model.unseen.fill_(math.nan)
            return super().batch(step)

    task = Ruined()
    task.model.register_buffer("unseen", torch.zeros(3))
    with pytest.raises(
        UserError, match=r"stopped: the weight unseen is nan at step 28; that step was not saved; the last good"
    ):
        go(tmp_path, task)
    good = checkpoint.latest(tmp_path, "toy")
    assert good.step < 25 and find_fault(good.tensors("model")) is None


def test_a_checkpoint_that_cannot_be_resumed_is_reported(tmp_path: Path):
    bad = {"a": torch.tensor([math.inf])}
    parts = {"model": bad, "ema": bad, "optimizer": bad}
    facts = {"seconds": 1.0, "evaluation": {}}
    made = checkpoint.save(tmp_path, "toy", 3, parts, identity={}, facts=facts)
    with pytest.raises(UserError, match=rf"ema.safetensors cannot be used .tensor a holds inf.* delete {made} to use"):
        checkpoint.load_weights(tmp_path, "toy")


def test_a_file_of_weights_is_plain_and_its_contents_bounded(tmp_path: Path):
    file = tmp_path / "x.safetensors"
    os.mkfifo(file)
    with pytest.raises(UserError, match=r"model file .*x.safetensors is a named pipe, not a file; copy it again"):
        read_tensors(file, "model file", "copy it again")
    file.unlink()
    for content, why in (
        (b"", "is damaged"),
        ((2**40).to_bytes(8, "little") + b"{}", "its header claims 1,099,511,627,776 bytes"),
        ((8).to_bytes(8, "little") + b"{" * 8, "is damaged"),
    ):
        file.write_bytes(content)
        with pytest.raises(UserError, match=f"x.safetensors .*{why}.*copy it again"):
            read_tensors(file, "model file", "copy it again")


# ------------------------------------------------------------------------------------------------- configs of others


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"image_std": [0.5, 0, 0.5]}, "each must be above 0"),
        ({"image_std": [0.5, -0.5, 0.5]}, "each must be above 0"),
        ({"image_std": [0.5, 1e-300, 0.5]}, "each must be above 0"),
        ({"image_std": [0.5, math.nan, 0.5]}, "not three numbers"),
        ({"image_mean": [math.inf, 0, 0]}, "not three numbers"),
        ({"image_mean": [True, 0, 0]}, "not three numbers"),
        ({"image_mean": [10**400, 0, 0]}, "not three numbers"),
        ({"image_mean": {"a": 1}}, "not three numbers"),
        ({"resample": [3]}, "only bilinear and bicubic"),
    ],
)
def test_pixels_that_cannot_be_prepared_are_refused(change: dict, why: str, tower: Path):
    edit(tower / "preprocessor_config.json", lambda held: held | change)
    with pytest.raises(UserError, match=why):
        FrozenClip(tower)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        *(("config.json", text) for text in ("[" * 100_000, "[1]", '{"a":' * 50_000, "{")),
        *(("words.json", text) for text in ("[1, 2]", '[["a"]]', '{"a": 1}', "[" * 100_000)),
        *(("preprocessor_config.json", text) for text in ("[]", "[" * 100_000)),
        *(
            ("tokenizer_config.json", text)
            for text in ("[]", "[" * 100_000, '"x"', '{"auto_map": {"AutoTokenizer": ["x.T", null]}}')
        ),
        *(("tokenizer.json", text) for text in ("[]", "{}", "[" * 100_000)),
    ],
)
def test_odd_files_of_a_clip_are_a_sentence(file: str, content: str, tower: Path):
    (tower / file).write_text(content)
    with pytest.raises(UserError, match=rf"CLIP folder .*{tower.name}") as told:
        FrozenClip(tower)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "special_tokens_map.json", "words.json", "model.safetensors"]
)
def test_a_pipe_in_a_clips_folder_is_not_waited_for(name: str, tower: Path):
    (tower / name).unlink(missing_ok=True)
    os.mkfifo(tower / name)
    with pytest.raises(UserError, match=f"{name}, which is not a regular file"):
        FrozenClip(tower)


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held["text_config"].update(num_hidden_layers=10**9),
        lambda held: held["vision_config"].update(num_hidden_layers="x"),
        lambda held: held["vision_config"].update(hidden_size=2**20, intermediate_size=2**22),
        lambda held: held["vision_config"].update(image_size=10**6),
        lambda held: held["vision_config"].update(patch_size=0),
        lambda held: held["text_config"].update(vocab_size=10**10),
        lambda held: held["text_config"].update(vocab_size=[1]),
        lambda held: held["text_config"].update(max_position_embeddings=10**10),
        lambda held: held.update(projection_dim=-1),
        lambda held: held.update(text_config=[]),
    ],
)
def test_a_clip_that_does_not_fit_its_config_is_refused_before_there_is_memory_for_it(change: Change, tower: Path):
    edit(tower / "config.json", lambda held: change(held) or held)
    with pytest.raises(UserError, match="CLIP folder") as told:
        FrozenClip(tower)
    assert "\n" not in str(told.value)


def test_a_model_far_larger_than_its_file_is_refused(model: Path):
    config = config_file.load(model / "config.yaml", Config, ["denoiser.width=1000000"])
    (model / "config.yaml").write_text(config_file.dump(config))
    with pytest.raises(
        UserError, match=r"denoiser.safetensors does not fit its config.yaml: it needs [\d,]{15,} parameters"
    ):
        ImageToVideo.from_pretrained(model, "cpu")
    with pytest.raises(UserError, match="num_layers"):
        config_file.load(ROOT / "configs" / "tiny.yaml", Config, ["denoiser.num_layers=1000000000"])


# -------------------------------------------------------------------------------------------------------- tokenizers


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model_max_length": "x"}, "is damaged"),
        ({"model_max_length": [1]}, "is damaged"),
        ({"pad_token": None}, "is damaged|pad"),
        ({"eos_token": None}, "without an end token"),
    ],
)
def test_a_tokenizer_that_cannot_read_a_sentence_is_refused(change: dict, why: str, tower: Path):
    edit(
        tower / "tokenizer_config.json",
        lambda held: {key: value for key, value in (held | change).items() if value is not None},
    )
    with pytest.raises(UserError, match=f"CLIP folder .*({why})"):
        FrozenClip(tower)


@pytest.mark.parametrize("length", [0, 1, 10**30])
def test_the_length_in_a_tokenizer_file_does_not_matter(length: int, tower: Path):
    before, _ = FrozenClip(tower).tokenize(["red " * 100, "red"])
    edit(tower / "tokenizer_config.json", lambda held: held | {"model_max_length": length})
    edit(tower / "tokenizer.json", lambda held: held | {"padding": {**PADDING, "strategy": {"Fixed": 5000}}})
    assert torch.equal(FrozenClip(tower).tokenize(["red " * 100, "red"])[0], before)


PADDING = {"direction": "Right", "pad_to_multiple_of": 64, "pad_id": 0, "pad_type_id": 0, "pad_token": "x"}


def test_ids_beyond_the_table_are_refused(tower: Path):
    def beyond(held: dict) -> None:
        held["post_processor"]["special_tokens"]["<|startoftext|>"]["ids"] = [10**6]

    edit(tower / "tokenizer.json", beyond)
    with pytest.raises(UserError, match="is damaged .index out of range"):
        FrozenClip(tower)


def with_rules(tower: Path, **rules: Any) -> None:
    edit(tower / "tokenizer.json", lambda held: held | rules)


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def test_the_bound_of_growth_is_never_below_the_growth(tower: Path):
    """On a text that every rule applies to, from harmless rules."""
    text = "aAb \ufdfa\u0130 "
    rules = (
        replace({"String": "a"}, "xyz" * 30),
        replace({"String": "aA"}, "xyz"),
        replace({"Regex": "b*"}, "12345"),
        {"type": "Prepend", "prepend": "\u2581\u2581\u2581"},
        *({"type": kind} for kind in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel")),
        {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        {
            "type": "Sequence",
            "normalizers": [{"type": "NFKC"}, {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}],
        },
    )
    for rule in rules:
        with_rules(tower, normalizer=rule, pre_tokenizer=None)
        backend = load_backend(tower)
        seen = len(backend.backend_tokenizer.normalizer.normalize_str(text))
        assert seen <= growth_of(backend, "x") * len(text), rule


def load_backend(tower: Path) -> Any:
    from cdcd_video.networks.clip.load_clip import load_tokenizer

    return load_tokenizer(tower)


HUNDRED = replace({"String": "a"}, "b" * 100)


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"normalizer": {"type": "Sequence", "normalizers": [HUNDRED, replace({"String": "b"}, "c" * 100)]}}, "10,000"),
        ({"normalizer": replace({"Regex": ""}, "c" * 1000)}, "1,001"),
        ({"normalizer": {"type": "Prepend", "prepend": "c" * 1000}}, "1,001"),
        ({"normalizer": {"type": "Sequence", "normalizers": [HUNDRED, {"type": "NFKD"}]}}, "1,800"),
    ],
)
def test_a_tokenizer_that_lengthens_texts_without_an_end_is_refused(rules: dict, why: str, tower: Path):
    with_rules(tower, pre_tokenizer=None, **rules)
    with pytest.raises(UserError, match=f"can turn one character into {why}.*, and at most 1,000 are allowed"):
        FrozenClip(tower)


def test_one_that_does_so_within_bounds_is_read_and_the_caption_cut_before(tower: Path):
    with_rules(tower, normalizer=HUNDRED, pre_tokenizer=None)
    read = FrozenClip(tower)
    given = []
    true = read.tokenizer
    read.tokenizer = lambda texts, **how: given.extend(texts) or true([text[:50] for text in texts], **how)
    read.tokenize(["a" * 1_000_000])
    assert read.growth == 100 and len(given[0]) == MOST_CHARACTERS // 100


def test_ten_thousand_words_are_read_to_where_the_tower_reads(tower: Path):
    read = FrozenClip(tower)
    assert read.tokenize(["red " * 10_000])[0].shape == (1, read.max_tokens)
    assert MOST_CHARACTERS / read.growth > 100_000


def test_reuse_takes_nothing_over_from_a_ruined_codec(model: Path, tmp_path: Path):
    name = with_value(model / "codec.safetensors", math.nan)
    config = config_file.load(ROOT / "configs" / "tiny.yaml", Config, [f"reuse={model}", "data.num_clips=2"])
    with pytest.raises(UserError, match=rf"codec.safetensors cannot be used .tensor {name} holds nan"):
        TrainingRun(config, tmp_path / "run", ["test"]).train()
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("captions", "read", "warned"),
    [
        (["собака бежит"], "собака спит", "the model never saw the words 'спит' in training"),
        (["一只红色的圆向右移动", "方块消失"], "方块向右移动", None),
        (["赤い円が右へ動く"], "円が消える", "the model never saw the words '消', 'え', 'る' in training"),
        (["วงกลมสีแดง"], "สีแดง", None),
        (["लाल वृत्त घूमता है"], "लाल वृत्त", None),
    ],
)
def test_a_clip_knows_the_words_of_captions_in_any_script(captions, read, warned, tower: Path):
    words = sorted({word for caption in captions for word in split_words(caption)})
    (tower / "words.json").write_text(json.dumps(words))
    clip = FrozenClip(tower)
    assert [line for line in clip.check_caption(read) if "never saw" in line] == ([warned] if warned else [])
    with pytest.raises(UserError, match="knows no word of the caption 'der Hund'"):
        clip.check_caption("der Hund")


def test_words_are_those_between_spaces_and_each_letter_where_there_are_none():
    assert split_words("The dog's left-hand ball, 2nd!") == ["the", "dog's", "left-hand", "ball", "2nd"]
    assert split_words("Cafe\u0301 \uff21\uff22") == ["café", "ab"]
    assert split_words("红圆 moves右") == ["红", "圆", "moves", "右"]
    assert split_words("लाल वृत्त") == ["लाल", "वृत्त"]
    assert split_words("?! …") == []
