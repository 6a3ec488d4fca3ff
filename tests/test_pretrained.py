"""Published CLIPs: found, refused, read as `transformers` and OpenCLIP read them; stand-ins that cannot be mistaken."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from cdcd_video.config import Config, config_file
from cdcd_video.data.images import fit, read_image
from cdcd_video.errors import UserError
from cdcd_video.metrics.features import networks
from cdcd_video.model import SHIPPED
from cdcd_video.model import load_model as load_whole
from cdcd_video.networks.clip import FrozenClip, find, load_clip, mark_of, open_clip, preprocessing, published
from cdcd_video.networks.clip.clip_files import sha256_of
from cdcd_video.networks.clip.random_clip import MARK_FILE, STAMP
from cdcd_video.tools import stand_in_clip

CAPTIONS = ["the red circle moves right", "a man plays the guitar", "zebra"]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory) -> Path:
    """A stand-in of the tiny shape."""
    folder = tmp_path_factory.mktemp("clip") / "stand-in"
    stand_in_clip.write(stand_in_clip.TINY, folder, 0, None, CAPTIONS * 3)
    return folder


@pytest.fixture
def plain(stand_in, tmp_path) -> Path:
    """The same without its marks: what a real folder looks like."""
    return unmarked(stand_in, tmp_path / "plain")


def unmarked(stand_in: Path, folder: Path, **config) -> Path:
    shutil.copytree(stand_in, folder)
    (folder / MARK_FILE).unlink()
    given = json.loads((folder / "config.json").read_text())
    del given["stand_in"]
    given["text_config"] |= config
    (folder / "config.json").write_text(json.dumps(given))
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"logit_scale": torch.tensor(4.6)}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def edit(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# ------------------------------------------------------------------------------------------------------------ finding


def test_a_name_or_a_folder_is_enough_in_a_config(tmp_path):
    for text in ("openai/clip-vit-base-patch16", "some/where/else", "{kind: pretrained, folder: x}"):
        (tmp_path / "a.yaml").write_text(f"name: a\ndata: {{kind: sprites}}\nclip: {text}\n")
        config = config_file.load(tmp_path / "a.yaml", Config)
        assert config.clip.kind == "pretrained" and config.clip.folder == (text if text[0] != "{" else "x")
        (tmp_path / "b.yaml").write_text(config_file.dump(config))
        assert config_file.load(tmp_path / "b.yaml", Config) == config
        assert config_file.load(tmp_path / "a.yaml", Config, ["clip=y"]).clip.folder == "y"
        assert config_file.load(tmp_path / "a.yaml", Config, ["clip.folder=z"]).clip.folder == "z"
    with pytest.raises(UserError, match='`codec` is "x", but must be a section'):
        config_file.load(tmp_path / "a.yaml", Config, ["codec=x"])
    with pytest.raises(UserError, match="`clip` is 3, but must be a section whose `kind` is builtin or pretrained"):
        config_file.load(tmp_path / "a.yaml", Config, ["clip=3"])


@pytest.mark.parametrize("is_offline", [False, True])
@pytest.mark.parametrize("name", published.KNOWN)
def test_without_the_weights_one_sentence_says_how_to_get_them(name, is_offline, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if is_offline else "0")
    with pytest.raises(UserError) as told:
        find(name)
    text, place = str(told.value), published.KNOWN[name].weights
    assert f"hf download {place.repository} {place.file}" in text and f"--revision {place.revision}" in text
    assert (
        "without one, run that on another machine" in text and ("HF_HUB_OFFLINE is set: unset it" in text) is is_offline
    )
    assert "\n" not in text and "Repo id" not in text and "couldn't connect" not in text


def test_the_command_that_is_named_is_there():
    from huggingface_hub.cli import hf

    assert "download" in hf.app.commands


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_published_clip_is_read_from_the_cache_at_its_commit_and_its_hash(
    is_whole, plain, stand_in, tmp_path, monkeypatch
):
    """As ViT-B/16: weights of an export in one repository, config and tokenizer in another."""
    export = write_export(tmp_path / "export", stand_in, "quick_gelu", None)
    weights = published.Place("open/export", "2" * 40, "open_clip_model.safetensors")
    names = ["config.json", *sorted(file.name for file in plain.glob("*.json") if file.name != "config.json")]
    beside = tuple(published.Place("some/body", "1" * 40, name) for name in names)
    digest = sha256_of(tmp_path / "export" / weights.file)
    entry = published.Known(weights, digest, beside, published.KNOWN["openai/clip-vit-base-patch16"].shape)
    monkeypatch.setattr("cdcd_video.networks.clip.clip_files.KNOWN", {"some/body": entry})
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", in_cache(tmp_path / "hub"))
    for at, source in ((weights, tmp_path / "export"), *((place, plain) for place in beside)):
        home = tmp_path / "hub" / f"models--{at.repository.replace('/', '--')}" / "snapshots" / at.revision
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / at.file, home / at.file)
    files = find("some/body")
    assert files.weights.parent != files.folder and (files.layout, files.sha256) == ("open_clip", digest)
    if not is_whole:
        save_file({"logit_scale": torch.tensor(4.6)}, files.weights)
        with pytest.raises(UserError, match="is not the published file of some/body: its sha256 is .* delete it"):
            FrozenClip("some/body")
        return
    clip = FrozenClip("some/body")
    ids, _ = clip.tokenize(CAPTIONS)
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_text(CAPTIONS).embedding, export.read(ids), atol=1e-5, rtol=1e-4)


def find_sha(folder: Path) -> str:
    return sha256_of(folder / "model.safetensors")


def in_cache(hub: Path):
    """The Hub's own look-up, in a cache of ours."""
    from huggingface_hub import try_to_load_from_cache

    return lambda repository, file, revision: try_to_load_from_cache(repository, file, hub, revision)


@pytest.mark.parametrize(
    "source, sentence",
    [
        ("/no/such/folder", "CLIP folder /no/such/folder does not exist; give a folder .* sprites, openai/"),
        (
            "runs/none",
            "neither an existing folder nor a known name .* add its commit: runs/none@",
        ),
        ("./x", "CLIP folder ./x does not exist"),
        ("some/model@" + "a" * 40, "hf download some/model model.safetensors config.json"),
    ],
)
def test_a_missing_folder_has_a_message_of_its_own(source, sentence):
    with pytest.raises(UserError, match=sentence) as told:
        FrozenClip(source)
    assert "Repo id must be" not in str(told.value)


def test_the_clip_of_a_shipped_model_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In any folder, whatever lies there: a model whose CLIP this is must load."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sprites").mkdir()
    found = find("sprites")
    assert found.source == "sprites" and found.folder == SHIPPED / "sprites" / "clip"
    assert FrozenClip("sprites").digest == load_whole("sprites").clip.digest


def test_the_words_of_a_named_clip_are_not_those_of_the_model(tiny_model: Path, tmp_path: Path):
    """A model of digits whose CLIP was trained on other captions must not warn of the words of its own."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("clip"))
    config = yaml.safe_load((tiny_model / "config.yaml").read_text())
    config["clip"] = {"kind": "pretrained", "folder": str(tiny_model / "clip")}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert load_whole(tiny_model).clip.known_words
    assert load_whole(folder).clip.known_words is None


def test_a_pickle_is_refused_and_never_opened(plain, monkeypatch):
    (plain / "model.safetensors").rename(plain / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    with pytest.raises(
        UserError, match=r"only as a pickle \(pytorch_model.bin\).* use a revision .*convert it: CLIP"
    ) as told:
        FrozenClip(plain)
    assert "openai/clip-vit-base-patch32@d15b5f29721ca72dac15f8526b284be910de18be" in str(told.value)


def test_weights_in_several_files_are_refused(plain):
    (plain / "model.safetensors").rename(plain / "model-00001-of-00002.safetensors")
    (plain / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UserError, match="has its weights in several files; merge them"):
        FrozenClip(plain)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"])
def test_what_is_missing_or_damaged_is_named(name, plain, tmp_path):
    shutil.copytree(plain, tmp_path / "cut")
    data = (plain / name).read_bytes()
    (tmp_path / "cut" / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=f"CLIP folder {tmp_path / 'cut'} is damaged"):
        FrozenClip(tmp_path / "cut")
    (plain / name).unlink()
    with pytest.raises(UserError, match=f"has no {name}"):
        FrozenClip(plain)


def test_files_without_permission_are_not_called_damaged(plain, monkeypatch):
    real = os.open

    def guarded(path, *args, **kwargs):
        if Path(path).name == "model.safetensors":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", guarded)
    with pytest.raises(UserError, match=r"model.safetensors cannot be read: permission denied; its owner .* chmod"):
        FrozenClip(plain)


def test_another_model_is_refused(plain):
    edit(plain / "config.json", model_type="bert")
    with pytest.raises(UserError, match=r"holds another model \(bert\)"):
        FrozenClip(plain)


def test_weights_that_do_not_fit_are_refused(plain):
    tensors = load_file(plain / "model.safetensors")
    del tensors["vision_model.post_layernorm.weight"]
    save_file(tensors, plain / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="do not fit its config .*vision_model.post_layernorm.weight"):
        FrozenClip(plain)


# ------------------------------------------------------------------------------------------------------------ reading


@pytest.fixture
def frozen(plain) -> FrozenClip:
    return FrozenClip(plain)


def test_embeddings_are_those_of_transformers(frozen):
    """Version 5 returns records where version 4 gave tensors: both towers are read by their parts."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen, read = frozen.encode_image(images, (0, 2)), frozen.encode_text(CAPTIONS)
    ids, mask = frozen.tokenize(CAPTIONS)
    with torch.no_grad():
        image = frozen.model.get_image_features(pixel_values=frozen.normalised(images))
        text = frozen.model.get_text_features(input_ids=ids, attention_mask=mask.long())
    assert not isinstance(image, torch.Tensor) and not isinstance(text, torch.Tensor), "it is not version 5"
    torch.testing.assert_close(seen.embedding, F.normalize(image.pooler_output, dim=-1))
    torch.testing.assert_close(read.embedding, F.normalize(text.pooler_output, dim=-1))
    assert seen.patches[1].shape == (2, 16, 64) and frozen.num_patches == 16


def test_the_sentence_is_read_where_it_ends(frozen):
    """The embedding of a sentence is the last layer at its end token, whatever stands behind it."""
    ids, mask = frozen.tokenize(CAPTIONS)
    last = frozen.model.text_model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    end = mask.sum(1) - 1
    assert (ids[torch.arange(3), end] == frozen.tokenizer.eos_token_id).all() and len(set(end.tolist())) > 1
    pooled = F.normalize(frozen.model.text_projection(last[torch.arange(3), end]), dim=-1)
    torch.testing.assert_close(frozen.encode_text(CAPTIONS).embedding, pooled)
    alone = torch.cat([frozen.encode_text([caption]).embedding for caption in CAPTIONS])
    torch.testing.assert_close(alone, pooled, atol=1e-5, rtol=1e-4)


def test_the_legacy_end_id_is_taken_where_it_means_the_same_and_refused_where_not(stand_in, tmp_path):
    old = FrozenClip(unmarked(stand_in, tmp_path / "legacy", eos_token_id=2))
    new = FrozenClip(unmarked(stand_in, tmp_path / "new"))
    torch.testing.assert_close(old.encode_text(CAPTIONS).embedding, new.encode_text(CAPTIONS).embedding)
    wrong = unmarked(stand_in, tmp_path / "wrong", eos_token_id=7)
    with pytest.raises(UserError, match="token id 7, but its tokenizer ends captions with 599; set text_config"):
        FrozenClip(wrong)
    # A tokenizer whose end is not its highest id: transformers would pool at any word above it.
    tokenizer = json.loads((wrong / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    word = next(word for word, number in words.items() if number == 7)
    del words[word]
    words |= {"unused": 599, "<|endoftext|>": 7}
    tokenizer["added_tokens"] = [one | {"id": 7} if one["id"] == 599 else one for one in tokenizer["added_tokens"]]
    (wrong / "tokenizer.json").write_text(json.dumps(tokenizer))
    given = json.loads((wrong / "config.json").read_text())
    given["text_config"]["eos_token_id"] = 2
    (wrong / "config.json").write_text(json.dumps(given))
    with pytest.raises(UserError, match="at the token id 599, but its tokenizer ends captions with 7; set"):
        FrozenClip(wrong)


def test_the_tokenizer_of_another_model_is_refused(plain):
    stand_in_clip.learned_tokenizer(CAPTIONS, 700).save_pretrained(plain)
    with pytest.raises(UserError, match="a tokenizer with 700 token ids and a text tower with 600"):
        FrozenClip(plain)


def test_half_precision_files_are_computed_in_32_bits(plain, frozen):
    tensors = load_file(plain / "model.safetensors")
    save_file(
        {key: value.half() for key, value in tensors.items()}, plain / "model.safetensors", metadata={"format": "pt"}
    )
    edit(plain / "config.json", dtype="float16")
    short = FrozenClip(plain)
    assert {parameter.dtype for parameter in short.parameters()} == {torch.float32}
    for key, value in short.model.state_dict().items():
        assert torch.equal(value, tensors[key].half().float()), key
    assert short.digest != frozen.digest


def test_broad_towers_attend_by_fused_kernels_with_the_same_result(frozen, plain):
    assert frozen.model.config._attn_implementation == "eager", "the shipped model's bits hang on it"
    config = load_clip.config_of(find(plain))
    config.vision_config.hidden_size = load_clip.WIDE
    assert load_clip.attention_of(config) == "sdpa"
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    eager = frozen.encode_image(images, (2,)).patches[0], frozen.encode_text(CAPTIONS).embedding
    frozen.model.set_attn_implementation("sdpa")
    torch.testing.assert_close(frozen.encode_image(images, (2,)).patches[0], eager[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(frozen.encode_text(CAPTIONS).embedding, eager[1], atol=1e-5, rtol=1e-4)


# ------------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.sweep(most=3)
@pytest.mark.parametrize("size, resample", [(64, 3), (96, 3), (150, 3), (150, 2), (40, 3)])
def test_frames_are_prepared_as_the_image_processor_of_transformers_does(size, resample, plain):
    """It rounds and cuts to 8 bits after each of two passes; so a pixel may differ by 3 of 255, and on the whole far less."""
    from transformers import CLIPImageProcessor

    edit(
        plain / "preprocessor_config.json",
        resample=resample,
        image_mean=[0.48, 0.46, 0.41],
        image_std=[0.27, 0.26, 0.28],
    )
    clip = FrozenClip(plain)
    rng = np.random.Generator(np.random.Philox(7))
    waves = rng.random((2, 6, 6, 3)).repeat(size // 6 + 1, 1).repeat(size // 6 + 1, 2)[:, :size, :size]
    frames = (255 * (0.8 * waves + 0.2 * rng.random((2, size, size, 3)))).astype(np.uint8)
    ours = clip.normalised(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)
    theirs = CLIPImageProcessor.from_pretrained(plain)(list(frames), return_tensors="pt").pixel_values
    assert ours.shape == theirs.shape == (2, 3, 64, 64)
    in_steps = (ours - theirs).abs() * clip.std * 255
    assert in_steps.max() <= (1e-3 if size == 64 else 3) and in_steps.mean() < 0.35


@pytest.mark.shared
def test_so_are_real_pictures(plain, shared_dir):
    """Sharp edges overshoot in the first pass, where it cuts them: there the difference is largest."""
    from transformers import CLIPImageProcessor

    clip, processor = FrozenClip(plain), CLIPImageProcessor.from_pretrained(plain)
    files = sorted((shared_dir / "data" / "i2v_prompts").rglob("*.png"))[:12]
    frames = np.stack([fit(read_image(file), 224) for file in files])
    ours = clip.normalised(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)
    theirs = processor(list(frames), return_tensors="pt").pixel_values
    in_steps = (ours - theirs).abs() * clip.std * 255
    assert len(files) == 12 and in_steps.max() < 12 and in_steps.mean() < 0.35


def test_frames_that_are_not_square_are_encoded_whole(frozen):
    wide = torch.zeros(1, 3, 64, 128)
    wide[..., 64:] = 1
    seen = frozen.normalised(wide) * frozen.std + frozen.mean
    assert seen.shape == (1, 3, 64, 64) and seen[..., :28].max() < 0.01 and seen[..., 36:].min() > 0.99


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"image_mean": [0.5]}, "image_mean is .0.5., not three numbers"),
        ({"resample": 1}, "asks for the interpolation 1;"),
    ],
)
def test_an_image_processor_that_is_not_understood_is_refused(change, sentence, plain):
    edit(plain / "preprocessor_config.json", **change)
    with pytest.raises(UserError, match=sentence):
        FrozenClip(plain)


def test_without_normalisation_pixels_stay_as_they_are(plain):
    edit(plain / "preprocessor_config.json", do_normalize=False)
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(FrozenClip(plain).normalised(images), images)


# ---------------------------------------------------------------------------------------------------- OpenCLIP exports


class Tower(nn.Module):
    """A CLIP tower as OpenCLIP names it, written with torch's own attention: what a conversion is held against."""

    def __init__(self, width: int, num_layers: int, num_heads: int, activation):
        super().__init__()
        self.resblocks = nn.ModuleList()
        for _ in range(num_layers):
            block = nn.Module()
            block.ln_1, block.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            block.attn = nn.MultiheadAttention(width, num_heads, batch_first=True)
            block.mlp = nn.Module()
            block.mlp.c_fc, block.mlp.c_proj = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
            self.resblocks.append(block)
        self.activation = activation

    def forward(self, x, mask=None):
        states = [x]
        for block in self.resblocks:
            y = block.ln_1(x)
            x = x + block.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
            x = x + block.mlp.c_proj(self.activation(block.mlp.c_fc(block.ln_2(x))))
            states.append(x)
        return states


class Export(nn.Module):
    """The whole, with the parameters of an OpenCLIP export."""

    def __init__(self, activation):
        super().__init__()
        self.visual = nn.Module()
        self.visual.class_embedding = nn.Parameter(torch.randn(64) * 0.1)
        self.visual.positional_embedding = nn.Parameter(torch.randn(17, 64) * 0.1)
        self.visual.proj = nn.Parameter(torch.randn(64, 32) * 0.1)
        self.visual.conv1 = nn.Conv2d(3, 64, 16, 16, bias=False)
        self.visual.ln_pre, self.visual.ln_post = nn.LayerNorm(64), nn.LayerNorm(64)
        self.visual.transformer = Tower(64, 2, 2, activation)
        self.positional_embedding = nn.Parameter(torch.randn(77, 32) * 0.1)
        self.text_projection = nn.Parameter(torch.randn(32, 32) * 0.1)
        self.logit_scale = nn.Parameter(torch.tensor(4.6))
        self.token_embedding = nn.Embedding(600, 32)
        self.transformer = Tower(32, 2, 2, activation)
        self.ln_final = nn.LayerNorm(32)
        for parameter in self.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)

    def see(self, pixels):
        x = self.visual.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.visual.class_embedding.expand(len(x), 1, -1), x], 1) + self.visual.positional_embedding
        states = self.visual.transformer(self.visual.ln_pre(x))
        return states, F.normalize(self.visual.ln_post(states[-1][:, 0]) @ self.visual.proj, dim=-1)

    def read(self, ids):
        length = ids.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        x = self.token_embedding(ids) + self.positional_embedding[:length]
        states = self.ln_final(self.transformer(x, mask)[-1])
        return F.normalize(states[torch.arange(len(ids)), ids.argmax(1)] @ self.text_projection, dim=-1)


ACTIVATIONS = {"gelu": nn.functional.gelu, "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x)}


def write_export(folder: Path, tokenizer: Path, activation: str, said: object) -> Export:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        export = Export(ACTIVATIONS[activation]).eval()
    folder.mkdir()
    save_file(
        {key: value.contiguous() for key, value in export.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    vision = dict(image_size=64, layers=2, width=64, patch_size=16, head_width=32, mlp_ratio=2.0)
    text = dict(context_length=77, vocab_size=600, width=32, heads=2, layers=2, mlp_ratio=2.0)
    model = dict(embed_dim=32, vision_cfg=vision, text_cfg=text) | ({} if said is None else {"quick_gelu": said})
    pixels_of = dict(mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4], interpolation="bicubic", resize_mode="shortest")
    (folder / "open_clip_config.json").write_text(json.dumps(dict(model_cfg=model, preprocess_cfg=pixels_of)))
    shutil.copy(tokenizer / "tokenizer.json", folder)
    return export


@pytest.mark.parametrize("activation, said", [("gelu", None), ("gelu", False), ("quick_gelu", True)])
def test_an_openclip_export_encodes_as_openclip_does(activation, said, stand_in, tmp_path):
    export = write_export(tmp_path / "export", stand_in, activation, said)
    clip = FrozenClip(tmp_path / "export")
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ids, _ = clip.tokenize(CAPTIONS)
    assert ids.max() == 599 == clip.tokenizer.eos_token_id
    with torch.no_grad():
        states, embedding = export.see(clip.normalised(images))
        seen = clip.encode_image(images, (0, 1, 2))
        for ours, theirs in zip(seen.patches, states, strict=True):
            torch.testing.assert_close(ours, theirs[:, 1:], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(seen.embedding, embedding, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(clip.encode_text(CAPTIONS).embedding, export.read(ids), atol=1e-5, rtol=1e-4)
    assert clip.pixels == preprocessing.Pixels((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic") and clip.stand_in is None


def test_the_activation_is_part_of_what_an_export_is(stand_in, tmp_path):
    write_export(tmp_path / "a", stand_in, "gelu", None)
    write_export(tmp_path / "b", stand_in, "gelu", True)
    a, b = FrozenClip(tmp_path / "a"), FrozenClip(tmp_path / "b")
    assert a.digest != b.digest and find_weights(tmp_path / "a") == find_weights(tmp_path / "b")


def find_weights(folder: Path) -> bytes:
    return (folder / "open_clip_model.safetensors").read_bytes()


def test_openai_weights_in_an_export_that_forgot_quick_gelu_are_not_guessed_at(stand_in, tmp_path, monkeypatch):
    write_export(tmp_path / "export", stand_in, "quick_gelu", None)
    file = tmp_path / "export" / "open_clip_model.safetensors"
    tensors = load_file(file)
    short = {key: value.half().float() if "ln_" not in key else value for key, value in tensors.items()}
    assert not open_clip.looks_like_openai(tensors) and open_clip.looks_like_openai(short)
    assert not open_clip.looks_like_openai({key: value.half() for key, value in tensors.items()})
    save_file(short, file)
    with pytest.raises(UserError, match='need quick_gelu, .* set "quick_gelu": true in its model_cfg, or false'):
        FrozenClip(tmp_path / "export")
    monkeypatch.setattr(open_clip, "OPENAI_SHA256", {load_clip.hashlib.sha256(file.read_bytes()).hexdigest()})
    assert FrozenClip(tmp_path / "export").model.config.vision_config.hidden_act == "quick_gelu"


@pytest.mark.parametrize("change", ["tower", "tensor", "lacking"])
def test_an_export_of_another_kind_is_refused(change, stand_in, tmp_path):
    write_export(tmp_path / "export", stand_in, "gelu", None)
    config = tmp_path / "export" / "open_clip_config.json"
    given = json.loads(config.read_text())
    if change == "tower":
        given["model_cfg"]["vision_cfg"]["timm_model_name"] = "vit_base"
    elif change == "lacking":
        del given["model_cfg"]["text_cfg"]["heads"]
    else:
        file = tmp_path / "export" / "open_clip_model.safetensors"
        save_file(load_file(file) | {"visual.attn_pool.query": torch.ones(2)}, file)
    config.write_text(json.dumps(given))
    sentence = {
        "tower": "towers are not CLIP's own",
        "tensor": "the tensor visual.attn_pool.query",
        "lacking": "'heads'",
    }
    with pytest.raises(UserError, match=sentence[change]):
        FrozenClip(tmp_path / "export")


# ---------------------------------------------------------------------------------------------------------- stand-ins


def test_a_stand_in_says_so_at_every_load_and_is_open_to_everybody(stand_in, capsys):
    for _ in range(2):
        clip = FrozenClip(stand_in)
        told = capsys.readouterr().err
        assert told.startswith(f"warning: STAND-IN CLIP: {stand_in} holds random weights in the shape of tiny (seed 0)")
        assert clip.stand_in in told and "a rehearsal, not a result" in told
    assert {file.stat().st_mode & 0o777 for file in stand_in.iterdir()} == {0o644}


def test_a_real_clip_says_nothing(plain, capsys):
    assert FrozenClip(plain).stand_in is None and capsys.readouterr().err == ""


@pytest.mark.parametrize("kept", ["file", "config", "header", "weights"])
def test_any_one_mark_is_enough(kept, stand_in, tmp_path):
    folder = shutil.copytree(stand_in, tmp_path / "copy")
    tensors = load_file(folder / "model.safetensors")
    given = json.loads((folder / "config.json").read_text())
    mark = given.pop("stand_in")
    header = {"stand_in": mark} if kept == "header" else {"format": "pt"}
    scale = STAMP if kept == "weights" else 4.6
    save_file(tensors | {"logit_scale": torch.tensor(scale)}, folder / "model.safetensors", metadata=header)
    (folder / "config.json").write_text(json.dumps(given | ({"stand_in": mark} if kept == "config" else {})))
    if kept == "file":
        edit(folder / MARK_FILE, sha256=find_sha(folder))
    else:
        (folder / MARK_FILE).unlink()
    assert "STAND-IN CLIP" in mark_of(find(folder)) and FrozenClip(folder).stand_in == mark_of(find(folder))


def test_saved_again_it_is_still_one(stand_in, tmp_path):
    clip = FrozenClip(stand_in)
    clip.model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert "stand_in" not in (file.metadata() or {}), "transformers writes a header of its own"
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(stand_in / name, tmp_path)
    assert "STAND-IN CLIP" in FrozenClip(tmp_path).stand_in


def test_a_model_refuses_another_clip_than_its_own(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    edit(folder / "model.json", clip_sha256=FrozenClip(folder / "clip").digest)
    load_whole(folder)
    tensors = load_file(folder / "clip" / "model.safetensors")
    save_file(
        tensors | {"logit_scale": torch.tensor(1.0).half()}, folder / "clip" / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(UserError, match="was trained with another CLIP .* restore that CLIP, or train again"):
        load_whole(folder)


def test_a_stand_in_is_no_measure(stand_in):
    with pytest.raises(UserError, match="clip:.* cannot be used for metrics: STAND-IN CLIP"):
        networks.load(f"clip:{stand_in}")


def test_a_mark_beside_other_weights_is_refused(stand_in, plain):
    shutil.copy(stand_in / MARK_FILE, plain)
    with pytest.raises(UserError, match="that belongs to other weights"):
        FrozenClip(plain)


def test_the_same_seed_gives_the_same_bytes_and_the_true_shape_has_its_true_size(tmp_path, stand_in):
    stand_in_clip.write(stand_in_clip.TINY, tmp_path / "again", 0, None, CAPTIONS * 3)
    stand_in_clip.write(stand_in_clip.TINY, tmp_path / "other", 1, None, CAPTIONS * 3)
    assert find_sha(tmp_path / "again") == find_sha(stand_in) != find_sha(tmp_path / "other")
    from transformers import CLIPConfig, CLIPModel

    sizes = {}
    for name, entry in published.KNOWN.items():
        with torch.device("meta"):
            model = CLIPModel(CLIPConfig(**entry.shape))
        sizes[name] = sum(parameter.numel() for parameter in model.parameters())
    # As counted in the published files (151,277,313, 149,620,737, 427,616,513), which open_clip's table rounds.
    assert list(sizes.values()) == [151_277_313, 149_620_737, 427_616_513]


def test_left_over_token_ids_belong_to_no_text():
    tokenizer = stand_in_clip.learned_tokenizer(CAPTIONS, 600)
    assert len(tokenizer) == 600 and tokenizer.eos_token_id == 599
    ids = tokenizer(["unused 300", *CAPTIONS]).input_ids
    used = {number for row in ids for number in row}
    free = {number for word, number in tokenizer.get_vocab().items() if word.startswith("unused")}
    assert free and not used & free and {row[-1] for row in ids} == {599}


def test_the_command_writes_one_and_refuses_what_it_cannot(tmp_path, monkeypatch, capsys):
    def run(*words: str) -> None:
        monkeypatch.setattr("sys.argv", ["stand_in_clip", *words])
        assert stand_in_clip.main() == 0

    run("tiny", "--out", str(tmp_path / "made"), "--seed", "4")
    assert "random weights (seed 4) in the shape of tiny" in capsys.readouterr().out
    (tmp_path / "words.gz").write_bytes(b"nothing")
    for words, sentence in (
        (["tiny", "--out", str(tmp_path / "made")], "made exists; name another folder"),
        (["huge", "--out", str(tmp_path / "new")], "there is no architecture 'huge'"),
        (
            [
                "openai/clip-vit-base-patch16",
                "--out",
                str(tmp_path / "new"),
                "--vocabulary",
                str(tmp_path / "words.gz"),
            ],
            "is not",
        ),
    ):
        with pytest.raises(UserError, match=sentence):
            run(*words)
    assert not (tmp_path / "new").exists()
