"""The rating page: what raters see, what is kept, and what never gets out."""

import collections
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
from rating import NASTY, NUM_FRAMES, SIDE_PX, SYSTEMS, Visitor, served, write_material, write_study

from cdcd_video import ImageToVideo, video
from cdcd_video.data.clips import read_clip
from cdcd_video.errors import UserError, exit_code
from cdcd_video.rate import __main__ as entrance
from cdcd_video.rate.address import is_local, listen
from cdcd_video.rate.answers import Refused, Store
from cdcd_video.rate.assign import Task, tasks_for
from cdcd_video.rate.prepare import make
from cdcd_video.rate.study import NOISE, Recipe, Study, open_study

ROOT = Path(__file__).resolve().parent.parent
GOOD = {"coherence": 1, "relevance": 0, "first_frame": -1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of six pairs, four checks and two repeats; nobody has rated it."""
    place = tmp_path_factory.mktemp("rate") / "study"
    write_study(place)
    return place


@pytest.fixture
def study(folder: Path):
    return open_study(folder)


@pytest.fixture
def store(study, tmp_path: Path):
    opened = Store(tmp_path / "answers.sqlite", study)
    yield opened
    opened.close()


@pytest.fixture
def port(study, folder: Path):
    with served(study, folder) as number:
        yield number
    for path in folder.glob("answers.sqlite*"):
        path.unlink()


# ---------------------------------------------------------------------------------------------------- making a study


def test_a_study_needs_nothing_of_what_it_was_made_from(study, folder: Path):
    assert [item.name for item in study.items][-1] == "<b>last" and len(study.items) == 6
    for name, media in study.media.items():
        assert re.fullmatch(r"[0-9a-f]{16}", name) and media.file == f"media/{name}{Path(media.file).suffix}"
        assert (folder / media.file).is_file()
    assert sum(item.noise is not None for item in study.items) == 4
    assert not list(folder.glob("**/*clip*"))


def test_videos_are_copied_frame_by_frame_without_what_the_header_says(tmp_path: Path):
    recipe = write_material(tmp_path, 2)
    source = tmp_path / SYSTEMS[0] / "clip0.mp4"
    with av.open(str(source)) as old, av.open(str(tmp_path / "tagged.mp4"), "w") as new:
        new.metadata["title"] = f"made by {SYSTEMS[0]}"
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    (tmp_path / "tagged.mp4").replace(source)
    assert SYSTEMS[0].encode() in source.read_bytes()
    study = make(recipe, tmp_path, tmp_path / "study")
    copy = tmp_path / "study" / study.media[study.items[0].videos[SYSTEMS[0]]].file
    before, after = (read_clip(path, size_px=SIDE_PX) for path in (source, copy))
    np.testing.assert_array_equal(before.frames, after.frames)
    assert before.fps == after.fps and SYSTEMS[0].encode() not in copy.read_bytes()
    assert study.media[copy.stem].seconds == pytest.approx(NUM_FRAMES / 8)


def test_noise_is_frozen_and_as_large_as_the_video(study, folder: Path):
    noise = next(item.noise for item in study.items if item.noise)
    clip = read_clip(folder / study.media[noise].file, size_px=SIDE_PX)
    assert clip.source_width == SIDE_PX and len(clip.frames) == NUM_FRAMES
    moved = np.abs(clip.frames[1:].astype(int) - clip.frames[:-1]).mean()
    assert moved < 3 and clip.frames[0].std() > 40


def test_sentence_and_picture_come_from_what_inference_writes(tmp_path: Path):
    from cdcd_video.config.video_record import FrameRecord

    picture = np.full((SIDE_PX, SIDE_PX, 3), 77, np.uint8)
    frame = FrameRecord.of(picture, "x.png").model_dump()
    for system in SYSTEMS[:2]:
        path = video.save(np.repeat(picture[None], 4, 0), tmp_path / system / "one" / "video.mp4", 8)
        text = [[0, "it moves"], [4, "it stops"]]
        path.with_suffix(".json").write_text(json.dumps({"text": text, "frame": frame}))
    recipe = Recipe(videos={system: system for system in SYSTEMS[:2]}, checks=0)
    study = make(recipe, tmp_path, tmp_path / "study")
    assert [(item.name, item.prompt) for item in study.items] == [("one", "it moves, then it stops")]
    path.with_suffix(".json").write_text(json.dumps({"text": [[0, "something else"]], "frame": frame}))
    with pytest.raises(UserError, match="sampled one from different captions"):
        make(recipe, tmp_path, tmp_path / "other")


def test_sentence_and_picture_come_from_the_recipe_inside_of_a_video(tiny_model: Path, tmp_path: Path):
    pipe = ImageToVideo.from_pretrained(tiny_model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = pipe("red-circle", "the red circle moves right", num_frames=4, num_steps=1)
    for system in SYSTEMS[:2]:  # as who samples in Python has them, without a .json
        made.save(tmp_path / system / "one.mp4")
    study = make(Recipe(videos={system: system for system in SYSTEMS[:2]}, checks=0), tmp_path, tmp_path / "study")
    (item,) = study.items
    assert item.prompt == "the red circle moves right" and item.frame


def test_what_not_every_system_has_is_left_out_and_said(tmp_path: Path):
    recipe = write_material(tmp_path, 3)
    (tmp_path / SYSTEMS[1] / "clip1.mp4").unlink()
    study = make(recipe, tmp_path, tmp_path / "study")
    assert study.left_out == ("clip1",) and [item.name for item in study.items] == ["clip0", "<b>last"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"videos": {"a": "nowhere", "b": "elsewhere"}}, "there is no folder .*nowhere"),
        ({"videos": {SYSTEMS[0]: SYSTEMS[0]}}, "pairs need two systems"),
        ({"videos": {"a": SYSTEMS[0], "b": f"x/../{SYSTEMS[0]}"}}, "a and b have the same folder"),
        ({"videos": {"a": SYSTEMS[0], "study": "study"}}, "is the folder of the videos of study; name a new folder"),
        (
            {"videos": {"a": SYSTEMS[0], "b": "other"}, "prompts": None},
            "a has clip0, zz; b has foo; videos are matched",
        ),
        ({"prompts": "nothing.tsv"}, "prompts .*nothing.tsv does not exist"),
        ({"prompts": None}, "clip0 has no prompt"),
        ({"prompts": None, "questions": ("coherence", "first_frame")}, "has no first frame"),
    ],
)
def test_mistakes_in_the_material_are_sentences(tmp_path: Path, change: dict, sentence: str):
    recipe = write_material(tmp_path, 2)
    (tmp_path / SYSTEMS[0] / "<b>last.mp4").rename(tmp_path / SYSTEMS[0] / "zz.mp4")  # so that clip0 comes first
    (tmp_path / "other").mkdir()
    shutil.copyfile(tmp_path / SYSTEMS[0] / "zz.mp4", tmp_path / "other" / "foo.mp4")
    with pytest.raises(UserError, match=sentence):
        make(Recipe(**(recipe.model_dump() | change)), tmp_path, tmp_path / "study")
    assert not (tmp_path / "study" / "study.json").exists()


def test_what_a_killed_make_left_is_no_part_of_the_next_study(tmp_path: Path):
    recipe, folder = write_material(tmp_path, 2), tmp_path / "study"
    left = ["media/0123456789abcdef.mp4", "media/.0123456789abcdef.png.7.part", ".study.json.7.part"]
    for name in (*left, "media/mine.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    study = make(recipe, tmp_path, folder)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files - {media.file for media in study.media.values()} == {"study.json", "media/mine.mp4"}


def test_a_study_that_cannot_be_written_leaves_no_media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Study, **options: int) -> str:
        raise OSError(28, "No space left on device")

    recipe, folder = write_material(tmp_path, 2), tmp_path / "study"
    monkeypatch.setattr(Study, "model_dump_json", full)
    with pytest.raises(UserError, match="study.json"):
        make(recipe, tmp_path, folder)
    assert not list((folder / "media").iterdir())


def test_a_damaged_video_and_a_second_study_are_refused(tmp_path: Path):
    recipe = write_material(tmp_path, 2)
    whole = (tmp_path / SYSTEMS[0] / "clip0.mp4").read_bytes()
    (tmp_path / SYSTEMS[0] / "clip0.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="clip0.mp4 cannot be used"):
        make(recipe, tmp_path, tmp_path / "study")
    assert not list((tmp_path / "study").glob("**/*.*"))
    (tmp_path / SYSTEMS[0] / "clip0.mp4").write_bytes(whole)
    make(recipe, tmp_path, tmp_path / "study")
    with pytest.raises(UserError, match="already has a study"):
        make(recipe, tmp_path, tmp_path / "study")


def test_names_of_systems_are_plain():
    with pytest.raises(ValueError, match="a system is named"):
        Recipe(videos={"<script>": "a"})
    with pytest.raises(ValueError, match="a system is named"):
        Recipe(videos={NOISE: "a"})


# ------------------------------------------------------------------------------------------------- who sees what


def test_every_rater_has_an_order_of_their_own_and_always_the_same(study):
    assert tasks_for(study, "anna") == tasks_for(study, "anna") != tasks_for(study, "bert")
    assert tasks_for(study.model_copy(update={"seed": 1}), "anna") != tasks_for(study, "anna")


@pytest.mark.parametrize("kind", ["pair", "single"])
def test_everything_is_shown_and_sides_are_even(study, kind: str):
    study = study.model_copy(update={"kind": kind})
    for rater in "abcdefgh":
        tasks = tasks_for(study, rater)
        plain = [task for task in tasks if not task.check]
        wanted = [(item.name, (system,)) for item in study.items for system in study.systems]
        if kind == "pair":
            wanted = [(item.name, study.systems) for item in study.items]
        assert sorted((task.item, tuple(sorted(task.systems))) for task in plain) == sorted(wanted)
        checks = [task for task in tasks if task.check == "noise"]
        assert len(checks) == 4 and not tasks[0].check
        if kind == "pair":
            assert sum(task.systems[0] == SYSTEMS[0] for task in plain) == 3
            assert sum(task.systems[0] == NOISE for task in checks) == 2
        repeats = [place for place, task in enumerate(tasks) if task.check == "repeat"]
        assert len(repeats) == 2
        for place in repeats:
            assert Task(tasks[place].item, tasks[place].systems[::-1]) in tasks[:place]


def test_few_tasks_are_shared_out_evenly_among_the_pairs(tmp_path: Path):
    study = write_study(tmp_path / "study", systems=SYSTEMS, num_items=4, tasks_per_rater=6, checks=0, repeats=0)
    for rater in "abcde":
        met = collections.Counter(frozenset(task.systems) for task in tasks_for(study, rater))
        assert sorted(met.values()) == [2, 2, 2]


# --------------------------------------------------------------------------------------------------------- the store


def rate(store: Store, key: str, count: int) -> list[str]:
    """Answers some pages and returns their names."""
    trials = []
    for _ in range(count):
        page = store.progress(key).page
        store.answer(key, page.trial, page.attempt, GOOD, 1.0)
        trials.append(page.trial)
    return trials


def test_the_same_name_goes_on_where_it_stopped(store: Store, study, tmp_path: Path):
    key = store.enter("Zoë  Ångström")
    rate(store, key, 5)
    page = store.progress(key).page
    again = Store(tmp_path / "answers.sqlite", study)
    assert again.enter(" zoë ångström ") == key
    assert again.progress(key).page == page and again.progress(key).done == 5 and again.progress(key).total == 12
    assert again.enter("zoe") != key
    again.close()


def test_an_answer_counts_once_and_the_first_one_counts(store: Store):
    key = store.enter("a")
    page = store.progress(key).page
    after = store.answer(key, page.trial, 0, GOOD, 1.0)
    assert after.done == 1 and after.page.trial != page.trial
    assert store.answer(key, page.trial, 0, dict.fromkeys(GOOD, -1), 9.0) == after
    (vote,) = store.votes()
    assert vote.answers == GOOD and vote.seconds == 1.0


def test_an_answer_that_was_taken_back_does_not_return_by_a_late_repetition(store: Store):
    key = store.enter("a")
    page = store.progress(key).page
    store.answer(key, page.trial, 0, GOOD, 1.0)
    back = store.undo(key, page.trial)
    assert back.done == 0 and (back.page.trial, back.page.attempt) == (page.trial, 1) and store.votes() == []
    assert store.answer(key, page.trial, 0, GOOD, 1.0) == back  # the first post, once more
    store.answer(key, page.trial, 1, dict.fromkeys(GOOD, 0), 1.0)
    assert [vote.answers for vote in store.votes()] == [dict.fromkeys(GOOD, 0)]
    assert store.undo(key, "another").done == 1


@pytest.mark.parametrize("answers", [{}, {"coherence": 1}, GOOD | {"more": 1}, GOOD | {"coherence": 2}])
def test_half_an_answer_is_none(store: Store, answers: dict):
    key = store.enter("a")
    with pytest.raises(Refused):
        store.answer(key, store.progress(key).page.trial, 0, answers, 1.0)
    assert store.progress(key).done == 0 and store.votes() == []


def test_pages_of_others_and_pages_to_come_cannot_be_answered(store: Store):
    anna, bert = store.enter("anna"), store.enter("bert")
    with pytest.raises(Refused):
        store.answer(anna, store.progress(bert).page.trial, 0, GOOD, 1.0)
    with pytest.raises(Refused):
        store.answer(anna, store.progress(anna).upcoming.trial, 0, GOOD, 1.0)
    with pytest.raises(Refused):
        store.answer("no such key", store.progress(anna).page.trial, 0, GOOD, 1.0)
    assert store.votes() == []


@pytest.mark.parametrize("name", ["", "  ", "a" * 61, "tab\x07bell"])
def test_names_that_cannot_be_used(store: Store, name: str):
    with pytest.raises(Refused):
        store.enter(name)


def test_many_raters_at_once(store: Store):
    def work(name: str) -> None:
        key = store.enter(name)
        rate(store, key, store.progress(key).total)

    threads = [threading.Thread(target=work, args=(f"rater {number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert collections.Counter(vote.rater for vote in store.votes()) == {f"rater {number}": 12 for number in range(6)}


def test_answers_of_another_study_are_not_mixed_in(store: Store, study, tmp_path: Path):
    with pytest.raises(UserError, match="another study"):
        Store(tmp_path / "answers.sqlite", study.model_copy(update={"id": "other"}))
    (tmp_path / "junk.sqlite").write_text("this is no database, however long one makes it" * 50)
    with pytest.raises(UserError, match="cannot store answers"):
        Store(tmp_path / "junk.sqlite", study)


WRITER = """
import sys
from pathlib import Path
from cdcd_video.rate.answers import Store
from cdcd_video.rate.study import open_study
store = Store(Path(sys.argv[2]), open_study(Path(sys.argv[1])))
for rater in range(1000):
    key = store.enter(f"rater {rater}")
    while page := store.progress(key).page:
        store.answer(key, page.trial, page.attempt, dict(coherence=1, relevance=0, first_frame=-1), 1.0)
        print(page.trial, flush=True)
"""


def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(folder: Path, study, tmp_path: Path):
    path = tmp_path / "answers.sqlite"
    command = [sys.executable, "-c", WRITER, str(folder), str(path)]
    for goal in (1, 20, 50):  # killed three times, each time in the middle, and it goes on each time
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        said = [process.stdout.readline().strip() for _ in range(goal)]
        process.send_signal(signal.SIGKILL)
        said += [line.strip() for line in process.stdout if line.endswith("\n")]
        process.wait()
        base = sqlite3.connect(path)
        kept = dict(base.execute("SELECT trial, COUNT(*) FROM answers GROUP BY trial"))
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        base.close()
        assert set(said) <= set(kept) and set(kept.values()) == {3}  # whole pages only
    store = Store(path, study)
    assert len(store.votes()) == len(kept)
    store.close()


def test_every_commit_waits_for_the_disk(store: Store):
    assert store._base._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._base._writer.execute("PRAGMA synchronous").fetchone() == (2,)


# -------------------------------------------------------------------------------------------------------- the server


def test_a_rater_comes_answers_leaves_and_returns(port: int):
    visitor = Visitor(port)
    assert visitor.get("/api/state").told["rater"] is None
    state = visitor.enter("Anna")
    assert state["rater"] == "Anna" and (state["done"], state["total"]) == (0, 12)
    assert len(state["page"]["videos"]) == 2 and state["page"] != state["upcoming"]
    state = visitor.answer(state).told
    state = visitor.answer(state).told
    assert state["done"] == 2 and visitor.get("/api/state").told == state
    other = Visitor(port)  # another browser, the same name
    assert other.enter("anna") == state
    assert other.post("/api/undo", {"trial": state["last"]}).told["done"] == 1


def test_posting_twice_is_posting_once(port: int):
    visitor = Visitor(port)
    state = visitor.enter("Anna")
    first, second = visitor.answer(state, 1), visitor.answer(state, -1)
    assert first.status == second.status == 200 and first.told == second.told and first.told["done"] == 1


def test_a_rater_can_come_to_the_end(port: int):
    visitor = Visitor(port)
    state = visitor.enter("Anna")
    while state["page"]:
        state = visitor.answer(state, 0).told
    assert state["done"] == state["total"] == 12 and state["upcoming"] is None


def test_nothing_tells_whose_a_video_is(port: int, study, folder: Path):
    visitor, seen = Visitor(port), []
    state = visitor.enter("Anna")
    seen += [visitor.get(path) for path in ("/", "/page.js", "/page.css", "/api/state", "/media/none")]
    while state["page"]:
        seen += [visitor.get(path) for path in [*state["page"]["videos"], state["page"]["frame"]]]
        answer = visitor.answer(state)
        seen.append(answer)
        state = answer.told
        assert not state["page"] or set(state["page"]) == {"trial", "attempt", "prompt", "frame", "videos"}
    told = b"".join(answer.body + str(answer.headers).encode() for answer in seen)
    assert len(told) > 50_000 and b"a square" in told
    for word in (*SYSTEMS, "noise", "clip0", "prompts.tsv", str(folder)):
        assert word.encode() not in told, word


def test_videos_are_served_whole_and_in_parts(port: int, study, folder: Path):
    visitor = Visitor(port)
    name = study.items[0].videos[SYSTEMS[0]]
    whole = visitor.get(f"/media/{name}")
    assert whole.headers["Content-Type"] == "video/mp4" and whole.body == (folder / f"media/{name}.mp4").read_bytes()
    part = visitor.get(f"/media/{name}", Range="bytes=4-7")
    assert part.status == 206 and part.body == b"ftyp"  # players seek by such requests


@pytest.mark.parametrize(
    "path",
    [
        "/media/../study.json",
        "/media/..%2fstudy.json",
        "/media/%2e%2e/study.json",
        "/media/../../../../../../etc/passwd",
        "/media/..%5cstudy.json",
        "/../answers.sqlite",
        "//etc/passwd",
        "/page.html%00.css",
        "/study.json",
        "/answers.sqlite",
        "/docs",
        "/openapi.json",
    ],
)
def test_only_what_is_listed_is_served(port: int, path: str):
    answer = Visitor(port).get(path)
    assert answer.status == 404 and b"format" not in answer.body and b"root:" not in answer.body


def test_prompts_and_names_are_text_and_the_page_runs_no_other_script(port: int, study):
    visitor = Visitor(port)
    state = visitor.enter(f"<script>alert(1)</script>{NASTY}"[:60])
    assert state["rater"].startswith("<script>")
    answer = visitor.get("/api/state")
    assert (
        answer.headers["Content-Type"] == "application/json" and answer.headers["X-Content-Type-Options"] == "nosniff"
    )
    page = visitor.get("/")
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    script = (ROOT / "cdcd_video/rate/page.js").read_text()
    markup = re.compile(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|setAttribute")
    assert not markup.search(script)
    text = page.body.decode()
    assert not re.search(r"<script>|\son\w+=|style=", text) and NASTY not in text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"trial": "x", "attempt": 0, "answers": GOOD, "seconds": 1}, 409),
        ({"trial": "x", "attempt": 0, "answers": {"coherence": "<b>"}, "seconds": 1}, 422),
        ({"trial": "x", "attempt": 0, "answers": GOOD, "seconds": 1, "more": 1}, 422),
        ({"trial": ["x"]}, 422),
        ([], 422),
    ],
)
def test_answers_that_make_no_sense(port: int, body, status: int):
    visitor = Visitor(port)
    visitor.enter("Anna")
    answer = visitor.post("/api/answer", body)
    assert answer.status == status and answer.told["error"] and "<b>" not in answer.body.decode()


def test_who_has_not_entered_cannot_answer(port: int):
    visitor = Visitor(port)
    state = visitor.enter("Anna")
    visitor.cookies.clear()
    assert visitor.answer(state).status == 409


def test_other_pages_cannot_post_or_reach_in_by_a_name_of_theirs(port: int):
    visitor = Visitor(port)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert visitor.post("/api/enter", {"name": "Anna"}, **form).status == 415
    assert visitor.post("/api/enter", {"name": "Anna"}, **{"Content-Type": "text/plain"}).status == 415
    assert visitor.get("/api/state", Host="evil.example").status == 403
    assert visitor.get("/", Host="evil.example:80").status == 403
    assert visitor.get("/", Host="localhost:1").status == 200


def test_beyond_this_machine_a_token_is_asked_for(study, tmp_path: Path):
    write_study(tmp_path / "study", num_items=2)
    study = open_study(tmp_path / "study")
    with served(study, tmp_path / "study", is_public=True) as port:
        beside = Store(tmp_path / "study" / "answers.sqlite", study)
        token = beside.token()
        stranger = Visitor(port)
        paths = [
            "/",
            "/page.js",
            "/api/state",
            f"/media/{next(iter(study.media))}",
            "/?token=wrong",
            "/?token=",
            "/?token=%ff",
        ]
        for path in paths:
            answer = stranger.get(path)
            assert answer.status == 403 and token.encode() not in answer.body, path
        assert stranger.post("/api/enter", {"name": "x"}).status == 403
        guest = Visitor(port)
        answer = guest.get(f"/?rater=Anna%20B&token={token}", Host="rate.example")
        assert answer.status == 303 and answer.headers["Location"] == "/?rater=Anna+B"  # the token leaves the address
        assert "HttpOnly" in answer.headers["Set-Cookie"] and "SameSite=lax" in answer.headers["Set-Cookie"]
        assert guest.get("/", Host="rate.example").status == 200
        assert guest.answer(guest.enter("Anna")).told["done"] == 1
        guest.cookies[f"token-{study.id}"] = "wrong"
        assert guest.get("/api/state").status == 403
        guest.cookies[f"token-{study.id}"] = token
        assert guest.get("/api/state").status == 200
        newer = beside.token(renew=True)  # by another process: the page that is served notices
        assert guest.get("/api/state").status == 403 and guest.get(f"/?token={token}").status == 403
        assert guest.get(f"/?token={newer}").status == 303 and guest.get("/api/state").told["done"] == 1
        beside.close()


def test_the_token_is_kept_until_renewed(store: Store):
    token = store.token()
    assert len(token) > 20 and store.token() == token
    assert store.token(renew=True) != token


def test_only_loopback_is_this_machine():
    assert all(is_local(host) for host in ("127.0.0.1", "127.0.0.9", "::1", "localhost"))
    assert not any(is_local(host) for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", ""))


def test_a_port_in_use_is_a_sentence():
    with listen("127.0.0.1", 0) as taken, pytest.raises(UserError, match="choose another --host or --port"):
        listen("127.0.0.1", taken.getsockname()[1])


# ------------------------------------------------------------------------------------------------------- the command


def command(*arguments: str, cwd: Path = ROOT, **more) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, "-m", "cdcd_video.rate", *arguments], cwd=cwd, env=environment, **pipes, **more
    )


def test_serve_makes_the_study_of_a_yaml_and_goes_on_after_it_was_killed(tmp_path: Path):
    write_material(tmp_path, 3)
    names = "".join(f"  {system}: {system}\n" for system in SYSTEMS[:2])
    (tmp_path / "mine.yaml").write_text(f"videos:\n{names}prompts: prompts.tsv\nchecks: 1\nrepeats: 0\n")
    done = []
    for host in ("127.0.0.1", "0.0.0.0"):
        process = command("serve", "--study", "mine.yaml", "--port", "0", "--host", host, cwd=tmp_path)
        try:
            line = next(line for line in process.stdout if line.startswith("Rate at"))
            found = re.search(r"http://[\d.]+:(\d+)/(?:\?(token=\S+))?", line)
            assert (found[2] is None) == (host == "127.0.0.1")
            visitor = Visitor(int(found[1]))
            visitor.get(f"/?{found[2] or ''}")
            state = visitor.enter("Anna")
            done.append(state["done"])
            assert visitor.answer(state).status == 200
        finally:
            process.kill()  # as unkindly as can be
            process.communicate()
    assert done == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve", "--study", "nowhere"], "there is no study in nowhere"),
        (["report", "--study", "nowhere"], "there is no study in nowhere"),
        (["make", "--study", "x", "--videos", "a"], "--videos a must be NAME=DIR"),
        (["make", "--study", "x", "--videos", "a=b", "--checks", "-1"], "--checks: "),
    ],
)
def test_mistakes_end_with_one_sentence(tmp_path: Path, monkeypatch, capsys, arguments: list[str], sentence: str):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rate", *arguments])
    assert exit_code(entrance.main) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and sentence in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir()), "a mistake leaves an empty folder"


def test_make_says_what_comes_next_and_leaves_nothing_where_it_fails(tmp_path: Path, monkeypatch, capsys):
    write_material(tmp_path, 2)
    monkeypatch.chdir(tmp_path)
    videos = [word for system in SYSTEMS[:2] for word in ("--videos", f"{system}={system}")]
    with pytest.raises(UserError, match="has no prompt"):
        entrance.main(["make", "--study", "new", *videos])
    assert not Path("new").exists()
    entrance.main(["make", "--study", "new", *videos, "--prompts", "prompts.tsv"])
    assert capsys.readouterr().out.endswith("serve it: python -m cdcd_video.rate serve --study new\n")


def test_without_fastapi_the_package_works_and_says_what_to_install(folder: Path, study):
    hidden = "import sys; sys.modules['fastapi'] = sys.modules['uvicorn'] = None\n"
    code = hidden + (
        "from pathlib import Path\nfrom cdcd_video.rate import server, study, report, __main__\n"
        "try:\n    server.create_app(study.open_study(Path(sys.argv[1])), None, Path())\n"
        "except server.UserError as error:\n    print(error)\nsys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "pip install '.[rate]'" in done.stdout
