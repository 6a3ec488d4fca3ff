"""The studio through its real server: frames while they are sampled, cancel, two visitors, limits, recipes, files."""

import http.client
import importlib.util
import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import yaml
from PIL import Image

from cdcd_video import ImageToVideo, UserError, Video
from cdcd_video.config.shipped_files import shipped_folder
from cdcd_video.studio import __main__ as command
from cdcd_video.studio import start_frame
from cdcd_video.studio.studio_limits import Limits
from cdcd_video.studio.temporary_files import delete_older

pytest.importorskip("gradio", reason="the extra studio is not installed")

from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from studio_server import Studio, pictures_in, served, videos_in

from cdcd_video.sampling.frame_stream import FrameStream

LIMITS = Limits(max_frames=48, max_steps=50, max_seconds=120, max_megabytes=1, keep_minutes=30)
SETTINGS = dict(num_frames=4, fps=8, num_steps=2, guidance=1.0, temperature=0.3, contrast=0.0, seed="3")
FURTHER = dict(top_p=1.0, top_k=0, order="ancestral", lookback_s=0, longest_gap_s=0, decoded="sampled")
FURTHER |= dict(unchanged="decoded", solver="euler")
TEXT = "the red circle moves right"
EXAMPLE = shipped_folder("examples") / "red-circle.png"


@pytest.fixture(scope="module")
def studio(tiny_model: Path):
    with served([str(tiny_model)], LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def pipe(tiny_model: Path) -> ImageToVideo:
    return ImageToVideo.from_pretrained(tiny_model)


def asked(studio: Studio, text: str = TEXT, other: str = "", num_seeds: int = 1, **changes: Any) -> list[Any]:
    """What Sample sends."""
    settings = SETTINGS | FURTHER | changes
    return [text, other, num_seeds, "", studio.shelf.names[0], "as trained", *settings.values()]


def sampled(pipe: ImageToVideo, image: Any = EXAMPLE, text: str = TEXT, **changes: Any) -> np.ndarray:
    """What the pipeline makes of the same."""
    settings = SETTINGS | FURTHER | changes
    return pipe(image, text, **{**settings, "seed": int(settings["seed"])}).frames


def written(visitor: Any, video: str) -> list[Path]:
    """The files behind the buttons that are shown then, each of which says its file's name."""
    buttons = [one for one in visitor.predict(video, api_name="/write") if one["visible"]]
    files = [Path(one["value"]) for one in buttons]
    assert all(one["label"].startswith(f"{file.name}, ") for one, file in zip(buttons, files, strict=True))
    return files


def wait_for(job: Any, count: int, seconds: float = 120) -> list[Any]:
    """Outputs of a job, once there are so many."""
    end = time.monotonic() + seconds
    while len(job.outputs()) < count:
        assert time.monotonic() < end and not job.done(), f"{len(job.outputs())} of {count} outputs came"
        time.sleep(0.02)
    return job.outputs()


@pytest.mark.filterwarnings("ignore::cdcd_video.SamplingWarning")
def test_frames_come_one_by_one_and_the_video_has_the_bits_of_the_pipeline(studio: Studio, pipe: ImageToVideo):
    job = studio.visitor().submit(*asked(studio), api_name="/sample")
    job.result()
    *while_sampled, (view, plot, status, *_) = job.outputs()
    assert [len(videos_in(one[0])) for one in while_sampled] == [0] * 4
    assert [re.search(r"Frame (\d) of 4", one[2])[1] for one in while_sampled] == ["1", "2", "3", "4"]
    expected = sampled(pipe)
    for number, one in enumerate(while_sampled):
        (frame,) = pictures_in(one[0])
        assert np.abs(frame.astype(int) - expected[number]).max() <= 1
    (video,) = videos_in(view)
    assert (video == expected).all() and "4 of 4 frames" in status
    assert plot.count("<polyline") == 24 + 1 and "PCA of 24 training clips" in plot


@pytest.mark.filterwarnings("ignore::cdcd_video.SamplingWarning")
def test_seeds_and_another_sentence_are_side_by_side(studio: Studio, pipe: ImageToVideo):
    other = "the blue square spins"
    view, _, _, choices, _ = studio.visitor().predict(*asked(studio, other=other, num_seeds=2), api_name="/sample")
    found = videos_in(view)
    expected = [sampled(pipe, text=text, seed=seed) for text in (TEXT, other) for seed in (3, 4)]
    assert len(found) == 4 and all((one == true).all() for one, true in zip(found, expected, strict=True))
    labels = [label for label, _ in choices["choices"]]
    assert labels[0] == f"1: seed 3, {TEXT}" and labels[3] == f"4: seed 4, {other}"


def test_what_is_cancelled_stops_and_can_be_gone_on_from(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    counted = count_frames(monkeypatch)
    visitor = studio.visitor()
    job = visitor.submit(*asked(studio, num_frames=48, num_steps=20), api_name="/sample")
    wait_for(job, 3)
    job.cancel()
    time.sleep(1)
    stopped = len(counted)
    time.sleep(1)
    assert len(counted) == stopped < 48
    view, _, status, choices, last = visitor.predict(api_name="/after_cancel")
    (video,) = videos_in(view)
    assert 3 <= len(video) <= stopped and f"{len(video)} of 48 frames, cancelled" in status
    page, status = visitor.predict(choices["value"], 2, TEXT, studio.shelf.names[0], api_name="/go_on")
    assert (pictures_in(page)[0] == video[2]).all() and "Frame 2 of video 1 is the starting frame now" in status
    with pytest.raises(AppError, match="greater than maximum"):
        visitor.predict(choices["value"], 40, TEXT, studio.shelf.names[0], api_name="/go_on")
    suffixes = sorted(file.suffix for file in written(visitor, choices["value"]))
    assert suffixes == [".gif", ".mp4", ".webp"], "a .json would not give these frames again"
    assert last["value"] == last["maximum"] == len(video) - 1


def test_a_visitor_who_leaves_stops_the_sampling(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    counted = count_frames(monkeypatch)
    place, session = urlsplit(studio.address), studio.visitor().session_hash
    config = json.loads(get(studio, "/config")[1])
    function = next(one["id"] for one in config["dependencies"] if one["api_name"] == "sample")
    data = [None, *asked(studio, num_frames=48, num_steps=20)]
    body = json.dumps({"data": data, "fn_index": function, "session_hash": session})
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    connection.request("POST", "/gradio_api/queue/join", body, {"Content-Type": "application/json"})
    assert connection.getresponse().read()
    connection.request("GET", f"/gradio_api/queue/data?session_hash={session}")
    answer = connection.getresponse()
    while len(counted) < 3:
        assert answer.readline()
    answer.close()
    connection.close()
    end = time.monotonic() + 60
    while True:  # the server notices within its heartbeat
        before = len(counted)
        time.sleep(2)
        if len(counted) == before:
            break
        assert time.monotonic() < end
    assert len(counted) < 48


def test_two_visitors_take_turns(studio: Studio):
    first, second = studio.visitor(), studio.visitor()
    long = first.submit(*asked(studio, num_frames=48, num_steps=20), api_name="/sample")
    wait_for(long, 2)
    short = second.submit(*asked(studio), api_name="/sample")
    (video,) = videos_in(short.result(timeout=120)[0])
    assert len(video) == 4 and not long.done(), "the second waited for the first"
    long.cancel()


@pytest.mark.filterwarnings("ignore::cdcd_video.SamplingWarning")
def test_files_are_recipes_of_the_same_video(studio: Studio, pipe: ImageToVideo, tmp_path: Path):
    visitor = studio.visitor(download_files=tmp_path)
    picture = tmp_path / "photo.png"
    noise = np.random.Generator(np.random.Philox(1)).integers(0, 256, (50, 90, 3), np.uint8)
    Image.fromarray(noise).save(picture)
    visitor.predict(handle_file(picture), TEXT, studio.shelf.names[0], api_name="/open_picture")
    text = f"{TEXT}\n2: the red circle stays still"
    changes = dict(fps=12, temperature=1.0, top_k=5, seed=str(2**63 - 1))
    view, *_, choices, _ = visitor.predict(*asked(studio, text, **changes), api_name="/sample")
    (video,) = videos_in(view)
    turns = [(0, TEXT), (2, "the red circle stays still")]
    assert (video == sampled(pipe, noise, turns, **changes)).all()
    files = written(visitor, choices["value"])
    assert sorted(file.suffix for file in files) == [".gif", ".json", ".mp4", ".webp"]
    for file in files:
        assert (pipe.sample_again(Video.load_recipe(file)).frames == video).all()
        visitor = studio.visitor()
        held = visitor.predict(handle_file(file), studio.shelf.names[0], api_name="/open_recipe")
        page, again, other, num_seeds, negative, model, fit, _, status, *settings = held
        assert "gives the same video" in status and (pictures_in(page)[0] == video[0]).all()
        view, *_ = visitor.predict(again, other, num_seeds, negative, model, fit, *settings, api_name="/sample")
        assert (videos_in(view)[0] == video).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(num_seeds=6, other="it spins"), "12 videos side by side are more than this studio samples"),
        (dict(text=" \n"), "no sentence is given"),
        (dict(text="3: it spins"), "begins at frame 3"),
        (dict(guidance=1000), "guidance is 1000"),
        (dict(top_k=1.5), "top_k is 1.5"),
        (dict(seed="x"), "seed is the text x"),
        (dict(seed="-1"), "seed is -1"),
        (dict(num_frames=40, num_steps=50, num_seeds=9, other="it spins"), "18 videos side by side"),
        (dict(text="<img src=x>"), "&lt;img"),
    ],
)
def test_a_mistake_is_a_sentence_on_the_page(studio: Studio, changes: dict[str, Any], sentence: str):
    with pytest.raises(AppError, match=re.escape(sentence)):
        studio.visitor().predict(*asked(studio, **changes), api_name="/sample")


def test_without_a_starting_frame_nothing_is_sampled(studio: Studio):
    client = Client(studio.address, verbose=False, analytics_enabled=False, httpx_kwargs={"timeout": 300})
    with pytest.raises(AppError, match="there is no starting frame"):
        client.predict(*asked(studio), api_name="/sample")
    with pytest.raises(AppError, match="no video is here"):
        client.predict(None, api_name="/write")


def test_models_that_are_not_offered_are_refused(studio: Studio):
    for name in ("/etc", "somebody/model"):
        with pytest.raises(AppError, match="not in the list of choices"):
            studio.visitor().predict(TEXT, name, "as trained", api_name="/load_model")
        with pytest.raises(UserError, match="this studio has no model"):
            studio.shelf.get(name)
    _, status, *settings = studio.visitor().predict(TEXT, studio.shelf.names[0], "as trained", api_name="/load_model")
    assert "is loaded: sha256" in status and settings[0] == studio.shelf.get("").pipe.defaults().num_frames


def test_files_that_are_no_pictures_or_too_large_are_refused(studio: Studio, tmp_path: Path):
    model = studio.shelf.names[0]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(AppError, match=r"^bad\.png is not an image in a supported format"):
        studio.visitor().predict(handle_file(bad), TEXT, model, api_name="/open_picture")
    with pytest.raises(AppError, match="is damaged"):
        bad.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
        studio.visitor().predict(handle_file(bad), model, api_name="/open_recipe")
    with pytest.raises(AppError, match=r"^bad\.png carries no recipe|^'?bad\.png'? is"):
        Image.new("RGB", (8, 8)).save(bad)
        studio.visitor().predict(handle_file(bad), model, api_name="/open_recipe")
    bad.write_bytes(b"\0" * (3 << 20))
    with pytest.raises(Exception, match="413|too large|exceeds"):
        studio.visitor().predict(handle_file(bad), TEXT, model, api_name="/open_picture")
    outside = {
        "path": str(EXAMPLE),
        "meta": {"_type": "gradio.FileData"},
    }  # a file of the server, and not of the visitor
    body, headers = (
        json.dumps({"data": [outside, TEXT, model, "as trained"]}).encode(),
        {"Content_Type": "application/json"},
    )
    status, answer, _ = get(studio, "/gradio_api/call/open_picture", "POST", body, **headers)
    if status == 200:  # taken, and refused where the file is looked for
        answer = get(studio, f"/gradio_api/call/open_picture/{json.loads(answer)['event_id']}")[1]
    assert status >= 400 or "event: error" in answer


def test_shapes_are_put_on_the_canvas(studio: Studio):
    visitor, model = studio.visitor(), studio.shelf.names[0]
    canvas = visitor.predict(api_name="/clear")
    given = {name: handle_file(canvas["composite"]) for name in ("background", "composite")} | {"layers": []}
    place = ("square", "blue", "large", 0.25, 0.75)
    added, page = visitor.predict(given, *place, TEXT, model, api_name="/add_shape")
    pixels = np.array(Image.open(added["composite"]).convert("RGB"))
    assert tuple(pixels[192, 64]) == start_frame.COLOURS["blue"] and tuple(pixels[0, 0]) == (32, 32, 32)
    (shown,) = pictures_in(page)
    assert np.abs(shown[shown.shape[0] * 3 // 4, shown.shape[1] // 4] - np.array(start_frame.COLOURS["blue"])).max() < 3
    with pytest.raises(AppError, match="the canvas is empty"):
        visitor.predict({"background": None, "layers": [], "composite": None}, TEXT, model, api_name="/use_canvas")
    with pytest.raises(UserError, match="both go from 0 to 1"):
        start_frame.with_shape(pixels, "square", "blue", "large", -1, 0)


def test_a_request_that_takes_too_long_keeps_its_frames(tiny_model: Path):
    with served([str(tiny_model)], Limits(max_seconds=1, max_frames=10_000, max_steps=500)) as studio:
        visitor = studio.visitor()
        view, _, status, *_ = visitor.predict(*asked(studio, num_frames=10_000, num_steps=200), api_name="/sample")
        (video,) = videos_in(view)
        assert 1 <= len(video) < 10_000 and f"{len(video)} of 10000 frames" in status


def test_those_who_do_not_fit_into_the_queue_are_sent_away(tiny_model: Path):
    with served([str(tiny_model)], Limits(at_once=1, max_waiting=1, max_frames=10_000, max_steps=500)) as studio:
        busy = [studio.visitor().submit(*asked(studio, num_frames=2_000), api_name="/sample") for _ in range(1)]
        wait_for(busy[0], 1)
        busy.append(studio.visitor().submit(*asked(studio, num_frames=2_000), api_name="/sample"))
        time.sleep(1)
        with pytest.raises(Exception, match="(?i)queue is full"):
            studio.visitor().predict(*asked(studio), api_name="/sample")
        for job in busy:
            job.cancel()


def test_temporary_files_go_by_age_and_at_the_end(tiny_model: Path, tmp_path: Path):
    with served([str(tiny_model)], LIMITS) as studio:
        assert studio.folder.stat().st_mode & 0o077 == 0, "others on this machine can look into it"
        studio.visitor().predict(handle_file(EXAMPLE), TEXT, studio.shelf.names[0], api_name="/open_picture")
        assert [path for path in studio.folder.rglob("*") if path.is_file()]
        delete_older(studio.folder, 60)
        assert [path for path in studio.folder.rglob("*") if path.is_file()]
        time.sleep(1.1)
        delete_older(studio.folder, 1)
        assert not [path for path in studio.folder.rglob("*") if path.is_file()]
    assert not studio.folder.exists()


def test_a_picture_of_another_world_is_said_to_be_one(tmp_path: Path):
    noise = np.random.Generator(np.random.Philox(1)).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with served(["sprites"], LIMITS) as studio:
        page = studio.visitor().predict(handle_file(tmp_path / "noise.png"), TEXT, "sprites", api_name="/open_picture")
        assert "the starting frame is unlike the training frames" in page
        Image.fromarray(noise[:19]).save(tmp_path / "noise.png")
        page = studio.visitor().predict(handle_file(tmp_path / "noise.png"), TEXT, "sprites", api_name="/open_picture")
        assert "% of it is cut off" in page, "this was said only once the video was sampled"
        page = studio.visitor().predict("red-circle", TEXT, "sprites", api_name="/example")
        assert 'class="note"' not in page


# ------------------------------------------------------------------------------------------------------- the guard, the page


def get(studio: Studio, path: str = "/", method: str = "GET", body: Any = None, **headers: str) -> tuple[int, str, Any]:
    """Status, content and headers of an answer."""
    place = urlsplit(studio.address)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, names, encode_chunked=body is not None and not isinstance(body, bytes))
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers


def test_without_a_token_only_this_machine_is_served(studio: Studio):
    status, _, headers = get(studio)
    assert status == 200 and "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert get(studio, Host="studio.example")[0] == 403
    join = "/gradio_api/queue/join"
    foreign = get(studio, join, "POST", b"{}", Origin="http://evil.example", Content_Type="application/json")
    assert foreign[0] == 403
    assert get(studio, join, "POST", b"\0" * (3 << 20))[0] == 413
    # Where its length is not said, the request breaks off where it becomes too large.
    assert get(studio, join, "POST", iter([b"\0" * (1 << 20)] * 3), Transfer_Encoding="chunked")[0] in (400, 413)
    for path in ("/gradio_api/file=/etc/passwd", "/gradio_api/file=pyproject.toml"):
        assert get(studio, path)[0] in (403, 404)


def test_with_a_token_it_is_asked_for_everywhere(tiny_model: Path):
    token = "abcdefgh12345678"
    with served([str(tiny_model)], LIMITS, token) as studio:
        for path in ("/", "/config", "/gradio_api/info", "/gradio_api/queue/data?session_hash=x"):
            assert get(studio, path)[0] == get(studio, path, Cookie="studio-token=wrong")[0] == 403
        status, _, headers = get(studio, f"/?token={token}&view=api")
        assert status == 303 and headers["Location"] == "/?view=api" and "HttpOnly" in headers["Set-Cookie"]
        assert get(studio, Cookie=headers["Set-Cookie"].split(";")[0], Host="studio.example")[0] == 200
        assert get(studio, Authorization=f"Bearer {token}")[0] == 200
        visitor = studio.visitor(headers={"Authorization": f"Bearer {token}"})
        assert len(videos_in(visitor.predict(*asked(studio), api_name="/sample")[0])[0]) == 4


def test_nothing_of_the_page_is_fetched_from_elsewhere_and_every_field_has_a_name(studio: Studio):
    _, page, _ = get(studio)
    addresses = re.findall(r"""(?:src|href)=["'](https?:[^"']+)""", page)
    assert [one for one in addresses if "gradio.app" not in one and "raw.githubusercontent" not in one] == []
    assert re.findall(r"""<(?:script|link)[^>]+(?:src|href)=["']https?:""", page) == []
    config = json.loads(get(studio, "/config")[1])
    assert config["analytics_enabled"] is False
    fields = [one for one in config["components"] if one["type"] in {"textbox", "slider", "number", "dropdown", "file"}]
    assert len(fields) > 20
    assert [one["id"] for one in fields if not one["props"].get("label")] == []


def test_videos_have_names_for_screen_readers(studio: Studio):
    view, plot, status, *_ = studio.visitor().predict(*asked(studio), api_name="/sample")
    alts = re.findall(r'<img[^>]* alt="([^"]*)"', view)
    assert len(alts) == view.count("<img") == 1 + 4 and all(alts) and view.count("data:image/webp") == 1
    assert 'role="group" tabindex="0" aria-label="frames of' in view and "prefers-reduced-motion" in view
    assert 'role="img" aria-label="Latent paths of 1 videos' in plot and 'role="status"' in status


def test_a_recipe_that_ends_in_a_frame_is_not_promised(studio: Studio, pipe: ImageToVideo, tmp_path: Path):
    record = pipe(EXAMPLE, TEXT, num_frames=3).record()
    path = tmp_path / "ends.json"
    path.write_text(record.model_copy(update={"last_frame": record.frame}).model_dump_json(exclude_none=True))
    status = studio.visitor().predict(handle_file(path), studio.shelf.names[0], api_name="/open_recipe")[8]
    assert "gives the same video" not in status and "sample --from" in status


def test_no_two_paths_look_alike(studio: Studio):
    plot = studio.visitor().predict(*asked(studio, num_seeds=8), api_name="/sample")[1]
    paths = re.findall(r'<g stroke="(#\w+)" fill="none" stroke-width="2[^"]*"( stroke-dasharray[^>]*)?>', plot)
    assert len(paths) == len(set(paths)) == 8


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--token", "short"], "--token is no word of at least 8"),
        (["--max-frames", "0"], "--max-frames is 0"),
        (["--host", "::1]"], "--host"),
        (["--port", "99999"], "--port is 99999"),
    ],
)
def test_the_command_refuses_in_a_sentence(words: list[str], sentence: str):
    with pytest.raises(UserError, match=re.escape(sentence)):
        command.main(words)


def count_frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every frame that any request samples."""
    counted: list[int] = []
    original = FrameStream.__next__

    def counting(self: FrameStream) -> Any:
        counted.append(1)
        return original(self)

    monkeypatch.setattr(FrameStream, "__next__", counting)
    return counted


def test_the_space_shows_the_same_page(studio: Studio):
    folder = Path(__file__).resolve().parent.parent / "integrations" / "space"
    header = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert header["sdk"] == "gradio" and header["license"] == "apache-2.0" and len(header["short_description"]) <= 60
    pinned = (folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in pinned) and f"gradio=={header['sdk_version']}" in pinned
    spec = importlib.util.spec_from_file_location("space_app", folder / header["app_file"])
    space = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(space)
    with space.temporary_files(60):
        page = space.build()
    own = json.loads(get(studio, "/config")[1])
    kinds = [(one["type"], one["props"].get("label")) for one in page.get_config_file()["components"]]
    assert kinds == [(one["type"], one["props"].get("label")) for one in own["components"]]
