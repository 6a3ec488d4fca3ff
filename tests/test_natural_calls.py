"""Calls as somebody who knows diffusers writes them before reading a page of ours, and what comes of each.

What works gives what it gives there; what cannot work is one sentence with the way out.
"""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.utils import export_to_gif, export_to_video
from natural import (
    OTHER,
    PROMPT,
    SHORT,
    SIDE,
    Call,
    Outcome,
    Refused,
    Table,
    are_videos,
    check,
    frames_in,
    is_pipeline,
    is_video,
    load,
    no_attribute,
    type_error,
    user_error,
    user_of,
)

import cdcd_video
from cdcd_video import ImageToVideo, SamplingWarning, Video

TABLE: Table = {}


def calls(**rows: tuple[Call, Outcome]) -> None:
    """Adds rows to the table; `u` is of `user_of`."""
    TABLE.update(rows)


# ------------------------------------------------------------------------------------------------------ loading

calls(
    load_a_folder_by_text=(lambda u: ImageToVideo.from_pretrained(str(u.folder)), is_pipeline),
    load_a_folder_by_path=(lambda u: ImageToVideo.from_pretrained(Path(u.folder)), is_pipeline),
    load_on_a_device=(lambda u: load(u, device=torch.device("cpu")), is_pipeline),
    load_torch_dtype=(lambda u: load(u, torch_dtype=torch.bfloat16).dtype, lambda out: out is torch.bfloat16),
    load_dtype=(lambda u: load(u, dtype=torch.float32), is_pipeline),
    load_float16=(lambda u: load(u, torch_dtype=torch.float16), user_error("use torch.float32 or torch.bfloat16")),
    load_two_precisions=(lambda u: load(u, precision="fp32", dtype=torch.bfloat16), user_error("names for the same")),
    load_device_map=(lambda u: load(u, device_map="cuda"), type_error("'device_map'; did you mean 'device'")),
    load_variant=(lambda u: load(u, variant="fp16"), type_error("'variant'; did you mean 'dtype'")),
    load_use_safetensors=(lambda u: load(u, use_safetensors=True), is_pipeline),
    load_pickles=(lambda u: load(u, use_safetensors=False), user_error("read from safetensors only")),
    load_from_the_cache=(
        lambda u: ImageToVideo.from_pretrained("some/model", local_files_only=True, cache_dir=u.tmp),
        user_error("nor in the Hub's cache"),
    ),
    load_a_typo=(lambda u: ImageToVideo.from_pretrained("sprtes"), user_error(r"name of a shipped model \(.*sprites")),
)

# -------------------------------------------------------------------------------------------- moving and inspecting

calls(
    to_returns_the_pipeline=(lambda u: u.pipe.to("cpu") is u.pipe, bool),
    to_dtype=(lambda u: load(u).to(torch.bfloat16).dtype, lambda out: out is torch.bfloat16),
    to_both=(lambda u: load(u).to("cpu", torch.float32), is_pipeline),
    to_by_name=(lambda u: load(u).to(device="cpu", dtype=torch.float32), is_pipeline),
    to_a_gpu_that_is_not_there=(lambda u: u.pipe.to("cuda:99"), user_error("'cuda:99' is not on this machine")),
    to_float16=(lambda u: u.pipe.to(torch.float16), user_error("use torch.float32 or torch.bfloat16")),
    device_and_dtype=(lambda u: (u.pipe.device.type, u.pipe.dtype), lambda out: out == ("cpu", torch.float32)),
    cuda=(lambda u: u.pipe.cuda(), no_attribute(r"'cuda': use pipe.to\(device, dtype\)")),
    offload=(lambda u: u.pipe.enable_model_cpu_offload(), no_attribute("small enough to stay where it is")),
    slicing=(lambda u: u.pipe.enable_vae_slicing(), no_attribute("small enough to stay where it is")),
    progress_bar=(lambda u: u.pipe.set_progress_bar_config(disable=True), no_attribute("give progress=")),
    scheduler=(lambda u: u.pipe.scheduler, no_attribute("choose num_inference_steps and order")),
    vae=(lambda u: u.pipe.vae, no_attribute("the codec is pipe.model.codec")),
    lora=(lambda u: u.pipe.load_lora_weights("x"), no_attribute("train further with")),
    compile=(lambda u: load(u).compile(backend="eager")(u.image, PROMPT, **SHORT), is_video()),
)

# ---------------------------------------------------------------------------------------------------- image and prompt

calls(
    positional=(lambda u: u.pipe(u.image, PROMPT, **SHORT), is_video()),
    by_name=(lambda u: u.pipe(image=u.image, prompt=PROMPT, **SHORT), is_video()),
    prompt_first_by_name=(lambda u: u.pipe(prompt=PROMPT, image=u.image, **SHORT), is_video()),
    prompt_first=(lambda u: u.pipe(PROMPT, u.image), user_error("the order is image, prompt")),
    no_image=(lambda u: u.pipe(prompt=PROMPT), user_error("no image is given")),
    no_prompt=(lambda u: u.pipe(u.image), user_error("no prompt is given")),
    image_as_text=(lambda u: u.pipe(str(u.file), PROMPT, **SHORT), is_video()),
    image_as_path=(lambda u: u.pipe(u.file, PROMPT, **SHORT), is_video()),
    image_as_bytes=(lambda u: u.pipe(u.file.read_bytes(), PROMPT, **SHORT), is_video()),
    image_as_file=(lambda u: u.pipe(io.BytesIO(u.file.read_bytes()), PROMPT, **SHORT), is_video()),
    image_as_array=(lambda u: u.pipe(np.array(u.image), PROMPT, **SHORT), is_video()),
    image_as_floats=(lambda u: u.pipe(np.array(u.image) / 255, PROMPT, **SHORT), is_video()),
    image_as_tensor=(lambda u: u.pipe(u.tensor, PROMPT, **SHORT), is_video()),
    image_as_bytes_tensor=(lambda u: u.pipe((u.tensor * 255).byte(), PROMPT, **SHORT), is_video()),
    image_from_minus_one=(lambda u: u.pipe(2 * u.tensor - 1, PROMPT), user_error("give floats from 0 to 1")),
    image_channels_last=(lambda u: u.pipe(u.tensor.permute(1, 2, 0), PROMPT), user_error(r"must be \(3, H, W\)")),
    image_of_the_web=(lambda u: u.pipe("https://x.org/a.png", PROMPT), user_error("nothing is downloaded")),
    image_of_another_kind=(lambda u: u.pipe({"a": 1}, PROMPT), user_error("of the type dict; give a path")),
)

# -------------------------------------------------------------------------------------------------------- settings

calls(
    steps=(lambda u: u.pipe(u.image, PROMPT, num_inference_steps=2, **SHORT), lambda v: v.settings["num_steps"] == 2),
    guidance=(lambda u: u.pipe(u.image, PROMPT, guidance_scale=2, **SHORT), lambda v: v.settings["guidance"] == 2),
    negative=(
        lambda u: u.pipe(u.image, PROMPT, negative_prompt=OTHER, guidance_scale=3.0, **SHORT),
        lambda v: v.settings["negative_prompt"] == OTHER,
    ),
    empty_negative=(
        lambda u: [u.pipe(u.image, PROMPT, guidance=2.0, **how, **SHORT) for how in ({}, {"negative_prompt": ""})],
        lambda out: np.array_equal(*out) and "negative_prompt" not in out[1].settings,
    ),
    frames_and_fps=(lambda u: u.pipe(u.image, PROMPT, num_frames=2, fps=4), lambda v: (len(v), v.fps) == (2, 4)),
    own_size=(lambda u: u.pipe(u.image, PROMPT, height=SIDE, width=SIDE, **SHORT), is_video()),
    other_size=(lambda u: u.pipe(u.image, PROMPT, height=480, width=832), user_error("height is 480, but the model's")),
    no_frames=(lambda u: u.pipe(u.image, PROMPT, num_frames=0), user_error("num_frames is 0; it must be from 1")),
    two_names_one_value=(lambda u: u.pipe(u.image, PROMPT, guidance=2, guidance_scale=2.0, **SHORT), is_video()),
    two_names_two_values=(
        lambda u: u.pipe(u.image, PROMPT, guidance=2, guidance_scale=3),
        user_error("guidance and guidance_scale are two names for the same, but one is 2 and the other 3"),
    ),
    typo=(lambda u: u.pipe(u.image, promt=PROMPT), type_error("'promt'; did you mean 'prompt'")),
    short_name=(lambda u: u.pipe(u.image, PROMPT, steps=2), type_error("did you mean 'num_inference_steps'")),
    old_callback=(lambda u: u.pipe(u.image, PROMPT, callback=print), type_error("did you mean 'callback_on_step_end'")),
    of_another_pipeline=(lambda u: u.pipe(u.image, PROMPT, motion_bucket_id=127), type_error("no argument 'motion_bu")),
)

# ------------------------------------------------------------------------------------------------- seeds and batches


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


calls(
    generator=(
        lambda u: [u.pipe(u.image, PROMPT, generator=seeded(), **SHORT) for _ in range(2)],
        lambda out: np.array_equal(*out),
    ),
    generator_goes_on=(
        lambda u: [u.pipe(u.image, PROMPT, generator=one, **SHORT) for one in [seeded()] * 2],
        lambda out: out[0].settings["seed"] != out[1].settings["seed"],
    ),
    generators=(
        lambda u: u.pipe(u.image, [PROMPT, OTHER], generator=[seeded(0), seeded(1)], **SHORT),
        are_videos(2),
    ),
    too_few_generators=(
        lambda u: u.pipe(u.image, [PROMPT] * 3, generator=[seeded()] * 2),
        user_error("there are 2 generators for 3 videos"),
    ),
    numpy_generator=(
        lambda u: u.pipe(u.image, PROMPT, generator=np.random.default_rng(0)),
        user_error("give a torch.Generator"),
    ),
    seed_and_generator=(lambda u: u.pipe(u.image, PROMPT, seed=0, generator=seeded()), user_error("give one of them")),
    seeds=(lambda u: u.pipe(u.image, PROMPT, seed=[0, 1, 2], **SHORT), are_videos(3)),
    videos_per_prompt=(
        lambda u: u.pipe(u.image, PROMPT, num_videos_per_prompt=3, seed=7, **SHORT),
        lambda out: are_videos(3)(out) and [one.settings["seed"] for one in out] == [7, 8, 9],
    ),
    several_of_both=(lambda u: u.pipe([u.image] * 2, [PROMPT, OTHER], **SHORT), are_videos(2)),
    one_image_for_all=(lambda u: u.pipe(u.image, [PROMPT, OTHER], **SHORT), are_videos(2)),
    one_prompt_for_all=(lambda u: u.pipe([u.image, u.file], PROMPT, **SHORT), are_videos(2)),
    batch_of_tensors=(lambda u: u.pipe(torch.stack([u.tensor] * 2), PROMPT, **SHORT), are_videos(2)),
    other_lengths=(
        lambda u: u.pipe([u.image] * 2, [PROMPT] * 3),
        user_error("there are 2 images and 3 prompts; give as many of each, or one for all"),
    ),
    empty_list=(lambda u: u.pipe(u.image, []), user_error("the list of prompts is empty")),
)

# --------------------------------------------------------------------------------------------------------- outputs


def noted(u: Any) -> list[tuple[bool, int, int, tuple[int, ...]]]:
    found = []

    def on_step_end(pipe, step, timestep, callback_kwargs):
        found.append((pipe is u.pipe, step, timestep, tuple(callback_kwargs["latents"].shape)))
        return callback_kwargs

    u.pipe(u.image, PROMPT, callback_on_step_end=on_step_end, **SHORT)
    return found


calls(
    first_video_np=(
        lambda u: u.pipe(u.image, PROMPT, output_type="np", **SHORT).frames[0],
        lambda out: out.shape == (3, SIDE, SIDE, 3) and out.dtype == np.float32 and out.max() <= 1,
    ),
    first_video_pil=(
        lambda u: u.pipe(u.image, PROMPT, output_type="pil", **SHORT).frames[0],
        lambda out: len(out) == 3 and all(one.size == (SIDE, SIDE) for one in out),
    ),
    first_video_pt=(
        lambda u: u.pipe(u.image, PROMPT, output_type="pt", **SHORT).frames,
        lambda out: out.shape == (1, 3, 3, SIDE, SIDE) and out.dtype == torch.float32,
    ),
    latents=(
        lambda u: u.pipe(u.image, PROMPT, output_type="latent", **SHORT).frames,
        lambda out: out.shape[:2] == (1, 3) and not out.is_floating_point(),
    ),
    unknown_output=(lambda u: u.pipe(u.image, PROMPT, output_type="npy"), user_error(r"did you mean 'np'")),
    tuple=(lambda u: u.pipe(u.image, PROMPT, return_dict=False, **SHORT), lambda out: is_video()(*out)),
    callback=(noted, lambda out: [one[:3] for one in out] == [(True, 0, 1), (True, 1, 2)]),
    export_gif=(
        lambda u: export_to_gif(u.pipe(u.image, PROMPT, output_type="pil", **SHORT).frames[0], str(u.tmp / "x.gif")),
        lambda out: frames_in(out) == 3,
    ),
    export_video=(
        lambda u: export_to_video(
            u.pipe(u.image, PROMPT, output_type="np", **SHORT).frames[0], str(u.tmp / "x.mp4"), fps=8
        ),
        lambda out: Path(out).stat().st_size > 0,
    ),
    length=(lambda u: len(u.video), lambda out: out == 3),
    last_frame=(lambda u: u.video[-1], lambda out: out.shape == (SIDE, SIDE, 3)),
    goes_on_from_the_last_frame=(lambda u: u.pipe(u.video[-1], OTHER, **SHORT), is_video()),
    no_such_frame=(lambda u: u.video[3], Refused(IndexError, "out of bounds")),
    cut=(lambda u: u.video[1:], is_video(2)),
    loop=(lambda u: [frame.shape for frame in u.video], lambda out: out == [(SIDE, SIDE, 3)] * 3),
    images=(lambda u: u.video.to_pil()[0], lambda out: out.size == (SIDE, SIDE)),
    tensor=(lambda u: u.video.to_tensor(), lambda out: out.shape == (3, 3, SIDE, SIDE) and out.max() <= 1),
    array=(lambda u: np.asarray(u.video), lambda out: out.shape == (3, SIDE, SIDE, 3) and out.dtype == np.uint8),
    save=(lambda u: u.video.save(u.tmp / "x.webp"), lambda out: frames_in(out) == 3),
    notebook=(lambda u: u.video._repr_html_(), lambda out: out.startswith('<img src="data:image/webp;base64,')),
    representation=(
        lambda u: repr(u.video),
        lambda out: out == f"Video(3 frames of 32 x 32 px, 8 fps, 0.375 s: {PROMPT})",
    ),
    contact_sheet=(
        lambda u: cdcd_video.contact_sheet([u.video, u.video[1:]], u.tmp / "sheet.png"),
        lambda out: frames_in(out) == 1,
    ),
    save_pretrained=(lambda u: load(u).save_pretrained(u.tmp / "saved"), lambda out: (out / "config.yaml").is_file()),
)


# ------------------------------------------------------------------------------ numbers, words and names of other origin


def same(*videos: Any) -> bool:
    return all(one == videos[0] for one in videos)


def in_autocast(u: Any) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return u.pipe(u.image, PROMPT, **SHORT), u.video


def below_home(u: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(u.tmp))
        return u.video.save("~/home.webp"), u.pipe("~/x.png", PROMPT, **SHORT)


def set_on(pipe: Any, name: str) -> None:
    setattr(pipe, name, True)


TURNS = [(0, PROMPT), (2, "the red circle stays still")]
calls(
    dtype_by_name=(lambda u: load(u, torch_dtype="bfloat16").dtype, lambda out: out is torch.bfloat16),
    dtype_auto=(lambda u: load(u, dtype="auto"), is_pipeline),
    dtype_by_no_name=(lambda u: load(u, dtype="int8"), user_error("use torch.float32 or torch.bfloat16")),
    to_a_gpu_by_number=(lambda u: u.pipe.to(99), user_error("'cuda:99' is not on this machine")),
    under_autocast=(in_autocast, lambda out: same(*out)),
    numpy_numbers=(
        lambda u: u.pipe(u.image, PROMPT, num_frames=np.int32(3), fps=np.float32(8), seed=np.int64(0)),
        lambda video: type(video.settings["num_frames"]) is int and type(video.settings["fps"]) is float,
    ),
    torch_numbers=(lambda u: u.pipe(u.image, PROMPT, num_frames=torch.tensor(3), seed=torch.tensor(1)), is_video()),
    whole_floats=(lambda u: u.pipe(u.image, PROMPT, num_frames=0.375 * 8, seed=0.0), is_video()),
    half_a_frame=(lambda u: u.pipe(u.image, PROMPT, num_frames=3.5), user_error("3.5; it must be a whole number from")),
    number_as_text=(lambda u: u.pipe(u.image, PROMPT, guidance_scale="7"), user_error("text 7; it must be a number")),
    seeds_as_an_array=(lambda u: u.pipe(u.image, PROMPT, seed=np.arange(2), **SHORT), are_videos(2)),
    turns_as_a_dictionary=(
        lambda u: [u.pipe(u.image, turns, **SHORT) for turns in (dict(TURNS), TURNS)],
        lambda out: same(*out),
    ),
    prompts_as_an_array=(lambda u: u.pipe(u.image, np.array([PROMPT, OTHER]), **SHORT), are_videos(2)),
    turn_as_a_sentence=(
        lambda u: u.pipe(u.image, f"0: {PROMPT}", **SHORT),
        Refused(SamplingWarning, r'begins with "0:", which is part of the sentence here; .* give \[\(0, '),
    ),
    empty_prompt=(lambda u: u.pipe(u.image, ""), user_error('is empty; say what should happen, as in "the red')),
    an_example_by_name=(lambda u: u.pipe("red-circle", PROMPT, **SHORT), is_video()),
    no_example_by_name=(lambda u: u.pipe("red-circel", PROMPT), user_error("did you mean red-circle")),
    image_is_a_video=(lambda u: u.pipe(u.video, PROMPT), user_error(r"give one of its frames, such as video\[-1\]")),
    below_home=(below_home, lambda out: frames_in(out[0]) == 3),
    by_constructor=(lambda u: ImageToVideo("sprites"), user_error(r"from_pretrained\('sprites'\)")),
    shows_itself=(lambda u: repr(u.pipe), lambda out: out.endswith(", 32 x 32 px, cpu, float32)")),
    parameters=(lambda u: u.pipe.parameters(), no_attribute("its networks are pipe.model.clip")),
    generate=(lambda u: u.pipe.generate(u.image, PROMPT), no_attribute(r"call it: pipe\(image, prompt\)")),
    set_a_scheduler=(lambda u: set_on(u.pipe, "scheduler"), no_attribute("choose num_inference_steps and order")),
    interrupt=(lambda u: set_on(u.pipe, "_interrupt"), no_attribute("raise an exception in callback_on_step_end")),
    start_latents=(lambda u: u.pipe(u.image, PROMPT, latents=u.tensor), type_error("give the image and the prompt")),
    tensors_out=(lambda u: u.pipe(u.image, PROMPT, output_type="tensor"), user_error("did you mean 'pt'")),
    pillow_out=(lambda u: u.pipe(u.image, PROMPT, output_type="PIL"), user_error("did you mean 'pil'")),
    safe_serialization=(lambda u: load(u).save_pretrained(u.tmp / "safe", safe_serialization=True), Path.is_dir),
    save_and_push=(lambda u: u.pipe.save_pretrained(u.tmp / "a", push_to_hub=True), type_error(r"pipe.push_to_hub\(")),
    save_directory=(lambda u: u.pipe.save_pretrained(u.tmp, save_directory="a"), type_error("did you mean 'folder'")),
    the_same_twice=(lambda u: (u.pipe(u.image, PROMPT, **SHORT), u.video), lambda out: same(*out) and len({*out}) == 1),
    frames_of_a_video=(lambda u: u.video.num_frames, no_attribute(r"it is len\(video\)")),
    first_of_videos=(lambda u: u.video.videos, no_attribute("it is one video, with its pixels in video.frames")),
    save_into_memory=(lambda u: u.video.save(io.BytesIO()), user_error("to_bytes")),
    from_a_list=(lambda u: Video([u.image] * 3, 8), user_error(r"of the type list; give uint8 pixels .*numpy.stack")),
    from_floats=(lambda u: Video(np.zeros((3, 8, 8, 3)), 8), user_error("of float64; give uint8 pixels")),
    one_in_a_sheet=(
        lambda u: [
            cdcd_video.contact_sheet(rows, u.tmp / "y.png", labels).read_bytes()
            for rows, labels in ((u.video, PROMPT), ([u.video], [PROMPT]))
        ],
        lambda out: out[0] == out[1],
    ),
    name_of_another_class=(lambda u: cdcd_video.ImageToVideoPipeline, no_attribute("did you mean 'ImageToVideo'")),
)


@pytest.fixture(scope="module")
def user(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return user_of(tiny_model, tmp_path_factory.mktemp("user"))


@pytest.mark.parametrize("name", TABLE)
def test_a_natural_call_works_or_says_why_not(name: str, user: SimpleNamespace):
    check(*TABLE[name], user)


def test_the_table_has_enough_of_each_kind():
    refused = [name for name, (_, outcome) in TABLE.items() if isinstance(outcome, Refused)]
    assert len(TABLE) >= 125 and len(TABLE) - len(refused) >= 70
