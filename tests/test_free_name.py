"""Names that replace nothing: of drawings, of their records, of folders of results."""

import json
import threading
from pathlib import Path

import pytest

from cdcd_video import request
from cdcd_video.errors import UserError
from cdcd_video.storage.folder_lock import folder_lock
from cdcd_video.storage.free_name import chosen_folder, free_name, numbered
from cdcd_video.storage.record_files import held_record, record_of

ASKED = {"frame": "photo.png", "text": ["it moves"], "out": None, "from_json": None}


def default(**changes: object) -> str:
    return request._default_out(ASKED | changes)


def written(target: request.Target) -> None:
    """As `request.write` leaves it."""
    target.video.write_bytes(b"video")
    target.json.write_text(json.dumps({"video": target.video.name}))


def drawn(**changes: object) -> request.Target:
    with request.chosen_target(ASKED | changes) as target:
        written(target)
    return target


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def test_a_second_video_takes_the_next_name_for_all_its_files():
    names = [drawn() for _ in range(3)]
    assert [target.video.name for target in names] == [f"photo-it-moves{end}.mp4" for end in ("", "-2", "-3")]
    assert [target.json for target in names] == [target.video.with_suffix(".json") for target in names]
    Path("out/photo-it-moves-4.json").write_text("{}")  # of a video that was moved away
    assert drawn().video.name == "photo-it-moves-5.mp4"


def test_a_name_that_is_being_written_is_not_free():
    found: list[str] = []

    def draw() -> None:
        with request.chosen_target(ASKED) as target:
            found.append(target.video.name)

    with request.chosen_target(ASKED) as target:
        other = threading.Thread(target=draw)
        other.start()
        other.join()
        assert (target.video.name, found) == ("photo-it-moves.mp4", ["photo-it-moves-2.mp4"])
    assert list(Path("out").iterdir()) == []


def test_a_reproduced_video_takes_a_free_name_too():
    Path("a.json").touch()
    names = [drawn(frame=None, text=None, from_json=name).video for name in ("a.json", "a.json", "b.gif.json")]
    assert list(map(str, names)) == ["a-again.mp4", "a-again-2.mp4", "b-again.mp4"]


def test_a_place_that_was_asked_for_is_written_again():
    assert drawn(out="x.mp4") == drawn(out="x.mp4")
    assert (
        drawn(out="made/")
        == drawn(out="made/")
        == request.Target(Path("made/video.mp4"), Path("made/video.json"), Path("made/frames"))
    )


@pytest.mark.parametrize("order", [("mp4", "gif", "webp"), ("webp", "mp4", "gif"), ("gif", "webp", "mp4")])
def test_videos_of_one_stem_have_a_record_each(order: tuple[str, ...]):
    targets = [drawn(out=f"clip.{suffix}") for suffix in order]
    again = [drawn(out=f"clip.{suffix}") for suffix in reversed(order)]
    _, second, third = order
    assert [target.json.name for target in targets] == ["clip.json", f"clip.{second}.json", f"clip.{third}.json"]
    assert again == targets[::-1]
    for target in targets:
        assert json.loads(target.json.read_text())["video"] == target.video.name
        assert record_of(target.video) == target.json


def test_two_at_once_do_not_take_one_record():
    found: list[str] = []

    def draw() -> None:
        with held_record(Path("clip.gif")) as place:
            found.append(place.name)

    with held_record(Path("clip.mp4")) as place:
        other = threading.Thread(target=draw)
        other.start()
        other.join()
    assert (place.name, found) == ("clip.json", ["clip.gif.json"])


def test_no_json_of_another_kind_is_replaced():
    Path("clip.json").write_text('{"captions": []}')
    assert drawn(out="clip.mp4").json.name == "clip.mp4.json"
    Path("other.json").write_text("{}")
    Path("other.mp4.json").write_text("[" * 100_000)
    with pytest.raises(
        UserError, match=r"other\.json and other\.mp4\.json belong to something else; choose another --out"
    ):
        drawn(out="other.mp4")


def test_the_record_of_a_pair_that_was_renamed_is_found_and_that_of_a_neighbour_is_not():
    target = drawn(out="clip.gif")
    assert record_of(Path("clip.mp4")) is None
    target.video.rename("b.gif")
    target.json.rename("b.json")
    assert record_of(Path("b.gif")) == Path("b.json") and record_of(Path("b.webm")) == Path("b.json")
    assert record_of(Path("c.gif")) is None


@pytest.mark.parametrize(
    "sentence, slug",
    [
        ("The red circle moves right!", "the-red-circle-moves-right"),
        ("\u043a\u0440\u0443\u0433 \u0438\u0434\u0451\u0442", "\u043a\u0440\u0443\u0433-\u0438\u0434\u0451\u0442"),
        ("\u4e00\u53ea\u732b\u3002", "\u4e00\u53ea\u732b"),
        ("\u0939\u093f\u0902\u0926\u0940", "\u0939\u093f\u0902\u0926\u0940"),
        ("Cafe\u0301", "caf\u00e9"),
        ("../../x", "x"),
    ],
)
def test_sentences_of_any_script_name_their_video(sentence: str, slug: str):
    assert default(text=[sentence]) == f"out/photo-{slug}.mp4"


def test_sentences_without_letters_differ_too():
    one, other = (default(text=[text]) for text in ("\U0001f534 \u27a1", "\U0001f535 \u2b06"))
    assert one != other and one.startswith("out/photo-video-")


def test_a_long_name_still_is_one():
    name = default(frame="\u732b" * 80 + ".png", text=["\U00020000 " * 90])
    assert len(Path(name).name.encode()) < 220
    assert drawn(frame="\u732b" * 80 + ".png", text=["\U00020000 " * 90]).video.is_file()


def test_a_folder_of_results_takes_a_free_name_where_none_is_given():
    for wanted in ("out/eval", "out/eval-2"):
        with chosen_folder(None, Path("out/eval")) as folder:
            assert str(folder) == wanted
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "scores.jsonl").touch()
    Path("out/eval-3").mkdir()
    (Path("out/eval-3") / ".lock").touch()
    with chosen_folder(None, Path("out/eval")) as folder:
        assert str(folder) == "out/eval-3", "an empty one is free"
    with chosen_folder(Path("out/eval"), Path("out/other")) as folder:
        assert str(folder) == "out/eval", "what was asked for is written again"


def test_a_place_for_results_that_is_no_folder_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch):
    Path("table.csv").write_text("mine")
    Path("nowhere").symlink_to("not-there")
    for name in ("table.csv", "nowhere"):
        with (
            pytest.raises(UserError, match=f"^{name} is not a folder; name another"),
            chosen_folder(Path(name), Path("x")),
        ):
            pytest.fail("the work began")
    Path("mine").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda path, how: False)  # as for another user; root may write everywhere
        with pytest.raises(UserError, match="^mine cannot be written: perm"), chosen_folder(Path("mine"), Path("x")):
            pytest.fail("the work began")
    assert Path("table.csv").read_text() == "mine"


def test_names_that_are_all_taken_are_no_reason_to_wait():
    with pytest.raises(FileExistsError), free_name([Path("a")], lambda name: True):
        pass
    with folder_lock(Path("a")), free_name(numbered(Path("a.tar"))) as name:
        assert name == Path("a.tar")
