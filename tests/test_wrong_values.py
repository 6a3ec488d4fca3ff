"""Values that the Python interface cannot use: each is one clear sentence with the way out, and what is clear works."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from natural import (
    OTHER,
    PROMPT,
    SHORT,
    Call,
    Outcome,
    Refused,
    Table,
    check,
    frames_in,
    is_pipeline,
    is_video,
    type_error,
    user_error,
    user_of,
)
from PIL import Image

from cdcd_video import ImageToVideo, Video, contact_sheet

TABLE: Table = {}


def calls(**rows: tuple[Call, Outcome]) -> None:
    """Adds rows to the table; `u` is of `user_of`."""
    TABLE.update(rows)


def at_home(u: Any, call: Callable[[], Any]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(u.tmp))
        return call()


# -------------------------------------------------------------------------------------------------------- a video


def saved(**how: Any) -> Call:
    return lambda u: u.video.save(u.tmp / "new" / "x.gif", **how)


def at_rate(fps: Any) -> Call:
    return lambda u: Video(u.video.frames, fps)


COUNT = "it must be a whole number above 0"
PART = r"give the number of a frame or a slice, or index the array video\.frames"
calls(
    scale_of_nothing=(saved(scale=0), user_error(f"^scale is 0; {COUNT}$")),
    scale_below_nothing=(saved(scale=-1), user_error(f"^scale is -1; {COUNT}$")),
    scale_of_a_half=(saved(scale=1.5), user_error(f"^scale is 1.5; {COUNT}$")),
    scale_as_text=(saved(scale="2"), user_error(f"^scale is the text 2; {COUNT}$")),
    scale_none=(saved(scale=None), user_error(f"^scale is None; {COUNT}$")),
    scale_true=(saved(scale=True), user_error(f"^scale is True; {COUNT}$")),
    scale_without_a_recipe=(saved(scale=0, recipe=False), user_error(f"^scale is 0; {COUNT}$")),
    scale_of_a_record=(lambda u: u.video.record(0), user_error(f"^scale is 0; {COUNT}$")),
    scale_that_no_file_holds=(saved(scale=3000), user_error("96,000 x 96,000 px, .* at most 65,535 px; lower scale")),
    scale_that_no_memory_holds=(lambda u: u.video.save(u.tmp / "new", scale=10**6), user_error("memory.*lower scale")),
    scale_of_numpy=(lambda u: u.video.save(u.tmp / "s.webp", scale=np.int64(2)), lambda out: frames_in(out) == 3),
    save_nowhere=(lambda u: u.video.save(None), user_error("saved under a path, not in a NoneType")),
    save_no_frames=(lambda u: u.video[5:].save(u.tmp / "new" / "x.gif"), user_error("has at least one frame")),
    bytes_without_a_dot=(lambda u: u.video.to_bytes("gif") == u.video.to_bytes(".gif"), bool),
    bytes_of_no_suffix=(lambda u: u.video.to_bytes(""), user_error("has no bytes as '.'; use .mp4, .gif, .webp")),
    bytes_of_another_kind=(lambda u: u.video.to_bytes(None), user_error("has no bytes as None; use .mp4")),
    rate_nan=(at_rate(float("nan")), user_error("^fps is nan; it must be above 0$")),
    rate_without_end=(at_rate(float("inf")), user_error("^fps is inf; it must be above 0$")),
    rate_of_nothing=(at_rate(0), user_error("^fps is 0; it must be above 0$")),
    rate_below_nothing=(at_rate(-1), user_error("^fps is -1; it must be above 0$")),
    rate_beyond_floats=(at_rate(10**400), user_error("it must be above 0")),
    rate_as_text=(at_rate("8"), user_error("^fps is the text 8; it must be a number above 0$")),
    rate_none=(at_rate(None), user_error("^fps is None; it must be a number above 0$")),
    rate_of_a_container=(lambda u: repr(at_rate(Fraction(25, 2))(u)), lambda out: "12.5 fps" in out),
    rate_of_torch=(lambda u: at_rate(torch.tensor(8.0))(u) == at_rate(np.float32(8))(u), bool),
    rate_too_slow=(lambda u: at_rate(1e-5)(u).save(u.tmp / "new" / "x.gif"), user_error("from 0.001 to 100,000")),
    rate_too_fast=(lambda u: at_rate(1e9)(u).save(u.tmp / "new" / "x.mp4"), user_error("from 0.001 to 100,000")),
    settings_none=(lambda u: Video(u.video.frames, 8, None), user_error("type NoneType; give a dictionary")),
    part_by_name=(lambda u: u.video["a"], user_error(f"^a video has no part 'a'; {PART}$")),
    part_by_half=(lambda u: u.video[1.0], user_error(PART)),
    part_by_list=(lambda u: u.video[[0, 1]], user_error(PART)),
    part_by_two=(lambda u: u.video[0, 1], user_error(PART)),
    part_by_none=(lambda u: u.video[None], user_error(PART)),
    slice_by_nothing=(lambda u: u.video[::0], user_error(PART)),
    slice_by_half=(lambda u: u.video[::1.5], user_error(PART)),
    slice_from_a_name=(lambda u: u.video["a":], user_error(PART)),
    no_frame_so_late=(lambda u: u.video[99], Refused(IndexError, "out of bounds")),
    backwards=(lambda u: (u.video[::-1].fps, len(u.video[::-2])), lambda out: out == (8, 2)),
)

# ----------------------------------------------------------------------------------------------- recipes and models

calls(
    again_of_a_video=(lambda u: u.pipe.sample_again(u.video) == u.video, bool),
    again_of_a_slice=(
        lambda u: u.pipe.sample_again(u.video[1:]),
        user_error("does not say how it was made.*give the whole"),
    ),
    again_of_a_list=(lambda u: u.pipe.sample_again([u.video]), user_error("read from a path, not from a list")),
    recipe_of_none=(
        lambda u: Video.load_recipe(None),
        user_error("not from a NoneType; give a video file or its .json"),
    ),
    recipe_of_a_video=(lambda u: Video.load_recipe(u.video), user_error("not from a Video")),
    load_none=(
        lambda u: ImageToVideo.from_pretrained(None),
        user_error("^the model is None; give the name of a shipped"),
    ),
    load_a_number=(lambda u: ImageToVideo.from_pretrained(5), user_error("^the model is 5; give the name")),
    load_bytes=(lambda u: ImageToVideo.from_pretrained(b"x"), user_error("^the model is b'x'; give the name")),
    load_no_name=(lambda u: ImageToVideo.from_pretrained(""), user_error("^the model is ''; give the name")),
    load_a_folder=(lambda u: ImageToVideo.from_pretrained(u.folder), is_pipeline),
    construct_of_none=(
        lambda u: ImageToVideo(None),
        user_error(r"type NoneType; use ImageToVideo.from_pretrained\(name\)"),
    ),
    save_model_nowhere=(lambda u: u.pipe.save_pretrained(None), user_error("saved in a folder, not in a NoneType")),
)

# --------------------------------------------------------------------------------------------------- contact sheets


def sheet(make: Callable[[Any], Any], name: str = "new/p.png", **how: Any) -> Call:
    return lambda u: contact_sheet(make(u), u.tmp / name, **how)


def same_sheet(make: Callable[[Any], Any], **how: Any) -> tuple[Call, Outcome]:
    """A sheet whose pixels are those of one of `u.video`."""

    def both(u: Any) -> list[np.ndarray]:
        paths = [contact_sheet([u.video], u.tmp / "p.png"), contact_sheet(make(u), u.tmp / "q.png", **how)]
        return [np.asarray(Image.open(path)) for path in paths]

    return both, lambda out: np.array_equal(*out)


def of_video(u: Any) -> Any:
    return [u.video]


KINDS = "give each video as a Video, a list of Pillow images, uint8 pixels"
calls(
    sheet_of_a_generator=same_sheet(lambda u: (one for one in [u.video])),
    sheet_of_tensors=same_sheet(lambda u: [u.video.to_tensor()]),
    sheet_of_a_tensor=same_sheet(lambda u: u.video.to_tensor()),
    sheet_of_bytes_in_a_tensor=same_sheet(lambda u: [(u.video.to_tensor() * 255).round().byte()]),
    sheet_of_images=same_sheet(lambda u: [u.video.to_pil()]),
    sheet_of_floats=same_sheet(lambda u: [u.video.frames / 255]),
    sheet_of_an_output=same_sheet(lambda u: u.pipe(u.image, PROMPT, output_type="np", **SHORT)),
    sheet_of_an_output_of_tensors=same_sheet(lambda u: u.pipe(u.image, PROMPT, output_type="pt", **SHORT).frames),
    sheet_below_home=(
        lambda u: at_home(u, lambda: contact_sheet([u.video], "~/home.png")),
        lambda out: out.name == "home.png" and out.parent.is_absolute(),
    ),
    sheet_with_numbers=(sheet(of_video, "p.png", labels=[1], columns=(0, 1, 2)), Path.is_file),
    sheet_with_labels_of_a_generator=(sheet(of_video, "p.png", labels=(str(one) for one in [1])), Path.is_file),
    sheet_with_one_number=(sheet(of_video, labels=1), user_error("^labels is of the type int; give a list of texts$")),
    sheet_with_columns_of_a_number=(sheet(of_video, columns=5), user_error("^columns is of the type int; give a list")),
    sheet_with_too_many_labels=(sheet(of_video, labels=["a", "b"]), user_error("^1 rows but 2 labels; give one label")),
    sheet_backwards=(sheet(of_video, every=-1), user_error(f"^every is -1; {COUNT}$")),
    sheet_of_no_step=(sheet(of_video, every=0), user_error(f"^every is 0; {COUNT}$")),
    sheet_of_half_a_step=(sheet(of_video, every=1.5), user_error(f"^every is 1.5; {COUNT}$")),
    sheet_of_far_floats=(sheet(lambda u: [u.video.frames * 1.0]), user_error("floats go from 0 to 1; give each video")),
    sheet_of_long_numbers=(sheet(lambda u: [u.video.frames.astype(int)]), user_error(f"of int64; {KINDS}")),
    sheet_of_frames=(sheet(lambda u: [u.video[0]]), user_error(rf"\(32, 32, 3\) of uint8; {KINDS}")),
    sheet_of_paths=(sheet(lambda u: [u.file]), user_error(f"type PosixPath; {KINDS}")),
    sheet_of_a_path=(sheet(lambda u: str(u.file)), user_error(f"type str; {KINDS}")),
    sheet_of_none=(sheet(lambda u: None), user_error(f"type NoneType; {KINDS}")),
    sheet_of_no_videos=(sheet(lambda u: []), user_error("needs at least one video")),
    sheet_of_no_frames=(sheet(lambda u: [u.video[5:]]), user_error("at least one frame of each")),
    sheet_in_memory=(lambda u: contact_sheet([u.video], io.BytesIO()), user_error("under a path, not in a BytesIO")),
    sheet_as_an_icon=(sheet(of_video, "new/p.ico"), user_error("cannot write a picture as '.ico' .*use .png")),
)

# ------------------------------------------------------------------------------------------- prompts and addresses


def address(image: Any, **how: Any) -> Call:
    return lambda u: u.pipe(image, PROMPT, **how)


calls(
    keys_of_json=(
        lambda u: [u.pipe(u.image, turns, **SHORT) for turns in ({"0": PROMPT, "2": OTHER}, {0: PROMPT, 2: OTHER})],
        lambda out: out[0] == out[1] and out[0].settings == out[1].settings,
    ),
    keys_of_words=(
        lambda u: u.pipe(u.image, {"a": PROMPT}),
        user_error(r"with 'a': 'the red.*keys are the frames.*\{0:"),
    ),
    keys_of_halves=(lambda u: u.pipe(u.image, {0.5: PROMPT}), user_error("with 0.5: .*keys are the frames")),
    no_sentence=(lambda u: u.pipe(u.image, {0: 5}), user_error("with 0: 5; its keys are the frames")),
    no_keys=(lambda u: u.pipe(u.image, {}), user_error("no caption is given")),
    image_of_a_file_address=(address("file:///tmp/a.png"), user_error("is an address; give the path .* after file://")),
    image_of_an_address_as_path=(
        address(Path("https://x.org/a.png")),
        user_error("nothing is downloaded; save the file"),
    ),
    image_of_a_bucket=(address("s3://x/a.png"), user_error("s3://x/a.png is an address, and nothing is downloaded")),
    image_in_capitals=(address("HTTPS://x.org/a.png"), user_error("nothing is downloaded")),
    image_in_its_address=(address("data:image/png;base64,AAAA"), user_error("save the file, and give its path")),
    last_image_of_an_address=(
        lambda u: u.pipe(u.image, PROMPT, last_image="ftp://x/a.png"),
        user_error("nothing is downloaded"),
    ),
    image_of_a_strange_name=(
        lambda u: u.pipe(u.image.save(u.tmp / "a:b.png") or u.tmp / "a:b.png", PROMPT, **SHORT),
        is_video(),
    ),
)


# ------------------------------------------------------------------------------------------------ other arguments

calls(
    rate_as_a_fraction=(lambda u: u.pipe(u.image, PROMPT, fps=Fraction(8), **SHORT) == u.video, bool),
    two_names_for_an_array=(
        lambda u: u.pipe(u.image, PROMPT, guidance=np.ones(2), guidance_scale=2),
        user_error("guidance and guidance_scale are two names"),
    ),
    seeds_in_a_table=(
        lambda u: u.pipe(u.image, PROMPT, seed=torch.ones(2, 2)),
        user_error("^seed is tensor.*whole number"),
    ),
    no_seeds=(
        lambda u: u.pipe(u.image, PROMPT, seed=[]),
        user_error("^the list of seeds is empty; give one per video$"),
    ),
    no_generators=(lambda u: u.pipe(u.image, PROMPT, generator=[]), user_error("^the list of generators is empty")),
    callback_with_one_name=(
        lambda u: u.pipe(
            u.image, PROMPT, callback_on_step_end=lambda *_: None, callback_on_step_end_tensor_inputs="latents", **SHORT
        ),
        is_video(),
    ),
    callback_with_a_number=(
        lambda u: u.pipe(u.image, PROMPT, callback_on_step_end=print, callback_on_step_end_tensor_inputs=5),
        user_error("type int; give a list of names"),
    ),
    progress_of_a_number=(
        lambda u: u.pipe(u.image, PROMPT, progress=5),
        user_error("^progress is of the type int; give"),
    ),
    progress_of_yes=(lambda u: u.pipe([u.image], PROMPT, progress=True), user_error("type bool; give a function")),
    stream_with_progress_of_yes=(
        lambda u: u.pipe.stream(u.image, PROMPT, progress=True),
        user_error("^progress is of the type bool"),
    ),
    stream_with_params_of_a_number=(
        lambda u: u.pipe.stream(u.image, PROMPT, 5),
        user_error(r"^params is of the type int; give pipe\.defaults\("),
    ),
    stream_with_params_of_no_names=(lambda u: u.pipe.stream(u.image, PROMPT, {3: 4}), user_error("type dict; give")),
    stream_with_params_of_a_name=(
        lambda u: u.pipe.stream(u.image, PROMPT, {"num_frame": 3}),
        type_error("did you mean 'num_frames'"),
    ),
    stream_with_params_of_names=(
        lambda u: np.concatenate(list(u.pipe.stream(u.image, PROMPT, dict(SHORT)))),
        lambda out: out.shape == (3, 32, 32, 3),
    ),
    warnings_of_a_number=(
        lambda u: u.pipe.warnings(5, u.pipe.defaults()),
        user_error("caption is of the type int; give"),
    ),
    warnings_of_nothing=(
        lambda u: u.pipe.warnings(None, u.pipe.defaults()),
        user_error("is of the type NoneType; give"),
    ),
    warnings_of_a_word_for_a_frame=(
        lambda u: u.pipe.warnings([("a", PROMPT)], u.pipe.defaults()),
        user_error("is of the type list; give a sentence"),
    ),
    fit_of_an_array=(
        lambda u: u.pipe(u.image, PROMPT, fit=np.array(["crop", "x"])),
        user_error("^fit is .*one of crop"),
    ),
    order_of_an_array=(
        lambda u: u.pipe.defaults(order=np.array(["x", "y"])),
        user_error("^order is .*one of ancestral"),
    ),
    image_without_data=(
        lambda u: u.pipe(torch.zeros(3, 8, 8, device="meta"), PROMPT),
        user_error(r"^the image tensor \(torch.float32 on meta\) has no pixels"),
    ),
    image_that_is_sparse=(lambda u: u.pipe(u.tensor.to_sparse(), PROMPT, **SHORT) == u.video, bool),
    threads_below_nothing=(
        lambda u: setattr(u.pipe, "num_threads", -1),
        user_error("threads is -1; .* from 1 to 1024"),
    ),
    threads_as_text=(
        lambda u: setattr(u.pipe, "num_threads", "2"),
        user_error("the text 2; it must be a whole number"),
    ),
    precision_that_is_none=(
        lambda u: setattr(u.pipe, "precision", "fp8"),
        user_error("^precision is 'fp8'; it must be one of bf16, fp32"),
    ),
    compile_of_no_mode=(lambda u: u.pipe.compile(mode="x"), user_error("^torch.compile refuses this .*mode=x")),
    compile_of_no_option=(lambda u: u.pipe.compile(speed=1), user_error("refuses this .*'speed'.* without options")),
    save_under_a_null=(lambda u: u.video.save(u.tmp / "a\0b.gif"), user_error("no path has a null character")),
    save_frames_under_a_null=(lambda u: u.video.save(u.tmp / "a\0b"), user_error("no path has a null character")),
    sheet_under_a_null=(sheet(of_video, "a\0b.png"), user_error("no path has a null character")),
    save_model_under_a_null=(lambda u: u.pipe.save_pretrained(u.tmp / "a\0b"), user_error("null character")),
    model_below_home=(
        lambda u: at_home(u, lambda: ImageToVideo.from_pretrained(u.pipe.save_pretrained("~/home") and "~/home")),
        lambda out: isinstance(out, ImageToVideo) and not Path("~").exists(),
    ),
    more_videos_than_memory=(
        lambda u: u.pipe(u.image, PROMPT, num_videos_per_prompt=10**9),
        user_error("^the call asks for 1,000,000,000 videos; ask for at most 100,000"),
    ),
    more_seeds_than_memory=(lambda u: u.pipe(u.image, PROMPT, seed=range(10**9)), user_error("asks for 1,000,000,000")),
    own_text=(lambda u: repr(Video(u.video.frames, 8, {"text": "own"})), lambda out: out.endswith(": own)")),
    recipe_below_home=(
        lambda u: at_home(u, lambda: Video.load_recipe(u.video.save("~/home.gif") and "~/home.gif")),
        lambda out: out.text == [(0, PROMPT)],
    ),
)


@pytest.fixture(scope="module")
def user(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return user_of(tiny_model, tmp_path_factory.mktemp("user"))


@pytest.mark.parametrize("name", TABLE)
def test_a_wrong_value_is_one_sentence_before_anything_is_written(name: str, user: SimpleNamespace):
    check(*TABLE[name], user)
    assert not (user.tmp / "new").exists()
