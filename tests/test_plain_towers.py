"""The built-in CLIP without `transformers`: the same bits, and nothing imported that takes seconds."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from cdcd_video.errors import UserError
from cdcd_video.model import SHIPPED
from cdcd_video.networks.clip import FrozenClip, plain_towers
from cdcd_video.networks.clip.clip_files import find

FOLDER = SHIPPED / "sprites" / "clip"
CAPTIONS = [
    "the red circle moves right",
    "the large yellow star spins quickly and the small blue square stays still",
    "héllo  Würld 123 " * 30,  # longer than the tower reads
    "",
]


@pytest.fixture(scope="module")
def both():
    """The shipped CLIP in plain torch, and the same as a `CLIPModel`."""
    plain = FrozenClip(FOLDER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_towers, "config_of", lambda files: None)
        return plain, FrozenClip(FOLDER)


def test_the_towers_are_plain_and_the_others_are_not(both):
    assert isinstance(both[0].model, plain_towers.PlainClip)
    assert type(both[1].model).__name__ == "CLIPModel"


@pytest.mark.parametrize("size_px", [64, 40])
def test_images_are_encoded_to_the_same_bits(both, size_px):
    images = torch.rand(3, 3, size_px, size_px, generator=torch.Generator().manual_seed(1))
    mine, theirs = (clip.encode_image(images, (0, 2, 4)) for clip in both)
    assert torch.equal(mine.embedding, theirs.embedding)
    assert all(torch.equal(one, other) for one, other in zip(mine.patches, theirs.patches, strict=True))


@pytest.mark.parametrize("captions", [CAPTIONS, *([caption] for caption in CAPTIONS)])
def test_captions_are_encoded_to_the_same_bits(both, captions):
    mine, theirs = (clip.encode_text(captions) for clip in both)
    for name in ("tokens", "is_word", "embedding"):
        assert torch.equal(getattr(mine, name), getattr(theirs, name)), name


@pytest.mark.parametrize("caption", CAPTIONS)
def test_one_sentence_has_the_same_tokens(both, caption):
    assert both[0].tokenizer(caption).input_ids == both[1].tokenizer(caption, verbose=False).input_ids


def test_a_batch_leaves_no_truncation_behind(both):
    plain = both[0]
    plain.encode_text(CAPTIONS)
    assert len(plain.tokenizer(CAPTIONS[2]).input_ids) > plain.max_tokens


def test_numbers_that_a_config_leaves_out_are_those_of_transformers():
    from transformers import CLIPTextConfig, CLIPVisionConfig

    for known, kind in ((plain_towers._TEXT, CLIPTextConfig), (plain_towers._VISION, CLIPVisionConfig)):
        theirs = kind()
        for name, value in {**known, **plain_towers._SHARED}.items():
            assert getattr(theirs, name) == value, (kind, name)


@pytest.mark.parametrize(
    "change",
    [{"model_type": "siglip"}, {"vision_config": {"hidden_act": "gelu"}}, {"text_config": {"hidden_size": 512}}, None],
)
def test_another_clip_is_left_to_transformers(tmp_path, change):
    folder = tmp_path / "clip"
    shutil.copytree(FOLDER, folder)
    if change is None:
        (folder / "words.json").unlink()
    else:
        config = json.loads((folder / "config.json").read_text())
        for name, value in change.items():
            config[name] = {**config[name], **value} if isinstance(value, dict) else value
        (folder / "config.json").write_text(json.dumps(config))
    assert plain_towers.config_of(find(folder)) is None


@pytest.mark.parametrize(
    ("section", "name", "value", "words"),
    [
        ("text_config", "num_hidden_layers", 10**9, "asks for 1000000000 layers"),
        ("vision_config", "intermediate_size", 10**9, "do not fit its config"),
        ("vision_config", "patch_size", 16, "do not fit its config"),
        ("text_config", "num_hidden_layers", 2, "do not fit its config"),
    ],
)
def test_a_config_that_does_not_fit_is_one_sentence(tmp_path, section, name, value, words):
    folder = tmp_path / "clip"
    shutil.copytree(FOLDER, folder)
    config = json.loads((folder / "config.json").read_text())
    config[section][name] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=words):
        FrozenClip(folder)


def test_loading_the_shipped_model_imports_neither_transformers_nor_torchs_compiler():
    code = "import sys; from cdcd_video import ImageToVideo; ImageToVideo.from_pretrained('sprites'); "
    code += "print([name for name in ('transformers', 'torch._dynamo', 'sympy') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
