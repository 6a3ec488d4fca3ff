"""Who reaches the rating page, what they may send, and what a study that somebody else made can do."""

import contextlib
import json
import os
import socket
import threading
import urllib.request
from pathlib import Path

import pytest
import uvicorn
from rating import SYSTEMS, Visitor, served, write_study

from cdcd_video.errors import UserError
from cdcd_video.rate import server
from cdcd_video.rate.address import is_local, links, listen, names_this_machine
from cdcd_video.rate.answers import Store
from cdcd_video.rate.limits import MAX_BODY_BYTES
from cdcd_video.rate.study import MAX_BYTES, open_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("guard") / "study"
    write_study(place, num_items=2, checks=1, repeats=0)
    return place


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A study's record of its own, with the media of the one above."""
    place = tmp_path / "study"
    place.mkdir()
    (place / "study.json").write_bytes((folder / "study.json").read_bytes())
    (place / "media").symlink_to(folder / "media")
    return place


# --------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "[::1]", "0.0.0.0", "::"])
def test_every_printed_link_opens(folder: Path, tmp_path: Path, host: str):
    if ":" in host and not socket.has_ipv6:
        pytest.skip("no IPv6")
    study = open_study(folder)
    store = Store(tmp_path / "answers.sqlite", study)
    try:
        opened = listen(host, 0)
    except UserError:
        assert ":" in host, "this machine has IPv4"
        pytest.skip("no IPv6")
    with opened:
        is_public = not is_local(opened.getsockname()[0])
        assert is_public == (host in ("0.0.0.0", "::"))
        app = server.create_app(study, store, folder, is_public=is_public)
        running = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [opened]})
        thread.start()
        ask = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor())
        try:
            told = links(opened)
            assert told and not any("0.0.0.0" in link or "[::]" in link for link in told)
            for link in told:
                token = f"?token={store.token()}" if is_public else ""
                assert b"<title>Rating videos" in ask.open(link + token, timeout=20).read()
        finally:
            running.should_exit = True
            thread.join(20)
            store.close()


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("", "--host is empty; set 127.0.0.1"),
        (" ", "--host is empty"),
        ("localhost:80", "is more than an address; set the address alone"),
        ("127.0.0.1:80", "is more than an address"),
        ("http://localhost", "is more than an address"),
        ("fe80::1", "link-local"),
        ("fe80::1%lo", "link-local"),
        ("203.0.113.7", "cannot serve on 203.0.113.7:0"),
        ("a" * 70, "cannot serve on a"),
    ],
)
def test_an_address_that_no_link_could_name_is_refused(host: str, sentence: str):
    with pytest.raises(UserError, match=sentence):
        listen(host, 0)


@pytest.mark.parametrize("port", [-1, 65_536, 99_999])
def test_a_port_that_is_none_is_refused(port: int):
    with pytest.raises(UserError, match=f"--port is {port}; it must be 0 to 65535"):
        listen("127.0.0.1", port)


def test_only_this_machine_by_an_address_of_its_own_is_asked_for():
    for header in ("127.0.0.1", "127.0.0.1:80", "127.0.0.2:8765", "localhost", "LOCALHOST:1", "[::1]", "[::1]:80"):
        assert names_this_machine(header), header
    for header in (
        *("", ":80", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "evil@127.0.0.1"),
        *("[::1", "127.0.0.1/x", "127.0.0.1#", "192.168.1.5", "0.0.0.0", "[::]", "127.0.0.1, evil.example"),
    ):
        assert not names_this_machine(header), header


# ------------------------------------------------------------------------------------------------------------- bodies


def sent(port: int, head: str, parts: list[bytes]) -> bytes:
    """What a server says to a request that is written out by hand; parts that it no longer wants are dropped."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.sendall(f"POST /api/enter HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
        try:
            for part in parts:
                line.sendall(part)
        except OSError:
            pass
        said = b""
        with contextlib.suppress(ConnectionResetError):  # it closed while we were still sending
            while more := line.recv(1 << 16):
                said += more
    return said


def test_large_bodies_are_refused_however_they_come(folder: Path):
    is_json = "Content-Type: application/json"
    large = json.dumps({"name": "x" * MAX_BODY_BYTES}).encode()
    piece = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    with served(open_study(folder), folder) as port:
        for head, parts in (
            (f"{is_json}\r\nContent-Length: {len(large)}", [large]),
            (f"{is_json}\r\nContent-Length: 99999999999", [b"{"]),
            (f"{is_json}\r\nTransfer-Encoding: chunked", [piece] * 40),  # never says how long it is
        ):
            # Of an answer that crosses what is still being sent the system may drop all; then it is asked again.
            said = next(filter(None, (sent(port, head, parts) for _ in range(5))), b"")
            assert said.startswith(b"HTTP/1.1 413 ") and b"too large" in said and b"default-src 'none'" in said
        small = b'{"name": "Anna"}'
        chunked = [b"%x\r\n" % len(small) + small + b"\r\n", b"0\r\n\r\n"]
        said = sent(port, f"{is_json}\r\nTransfer-Encoding: chunked\r\nConnection: close", chunked)
        assert said.startswith(b"HTTP/1.1 200 ") and b'"rater":"Anna"' in said
        fits = json.dumps({"name": "y"}).encode() + b" " * (MAX_BODY_BYTES - 13)
        said = sent(port, f"{is_json}\r\nContent-Length: {len(fits)}\r\nConnection: close", [fits])
        assert len(fits) == MAX_BODY_BYTES and said.startswith(b"HTTP/1.1 200 ")


# ------------------------------------------------------------------------------------------------- a stranger's study


def changed(folder: Path, change) -> None:
    record = json.loads((folder / "study.json").read_text())
    change(record)
    (folder / "study.json").write_text(json.dumps(record))


def first_media(record: dict) -> dict:
    return next(iter(record["media"].values()))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda study: first_media(study).update(file="../x.mp4"), "media"),
        (lambda study: first_media(study).update(file="media/../../x.mp4"), "media"),
        (lambda study: first_media(study).update(file="/etc/x.mp4"), "media"),
        (lambda study: first_media(study).update(file="..\\x.mp4"), "media"),
        (lambda study: first_media(study).update(file="answers.sqlite"), "media"),
        (lambda study: first_media(study).update(seconds=1e999), "media"),
        (lambda study: study.update(id="a; Domain=x"), "id"),
        (lambda study: study.update(repeats=10**9), "repeats"),
        (lambda study: study.update(tasks_per_rater=0), "tasks_per_rater"),
        (lambda study: study.update(seed=2**200), "seed"),
        (lambda study: study.update(questions=[]), "questions must be one or more of"),
        (lambda study: study.update(systems=["<b>", "x"]), "a system is named"),
        (lambda study: study.update(systems=[SYSTEMS[0]] * 2), "system names must be unique"),
        (lambda study: study.update(media={}), "not in media"),
        (lambda study: study["items"][0].update(frame="nothing"), "not in media"),
        (lambda study: study["items"][0].update(name=study["items"][1]["name"]), "two items have the same name"),
        (lambda study: study["items"][0]["videos"].popitem(), "must have one video of every system"),
    ],
)
def test_a_study_that_would_show_something_else_is_refused(copy: Path, change, place: str):
    open_study(copy)
    changed(copy, change)
    with pytest.raises(UserError, match=f"study.json is damaged at .*{place}"):
        open_study(copy)


def test_a_study_is_a_plain_file_of_bounded_size(tmp_path: Path):
    path = tmp_path / "study.json"
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match="larger than the limit of 16 MiB"):
        open_study(tmp_path)
    path.write_text("[" * 100_000)
    with pytest.raises(UserError, match="is damaged at its beginning"):
        open_study(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="is a named pipe"):
        open_study(tmp_path)


@pytest.mark.parametrize("kind", ["missing", "link", "folder", "pipe"])
def test_media_that_are_not_there_are_404_and_told(folder: Path, tmp_path: Path, kind: str):
    study, place = open_study(folder), tmp_path / "study"
    (place / "media").mkdir(parents=True)
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    name, media = next((name, media) for name, media in study.media.items() if media.file.endswith(".mp4"))
    if kind == "link":
        (place / media.file).symlink_to(tmp_path / "secret.mp4")
    elif kind == "folder":
        (place / media.file).mkdir()
    elif kind == "pipe":
        os.mkfifo(place / media.file)
    told = []
    with served(study, place, told=told) as port:
        visitor = Visitor(port)
        for _ in range(2):
            answer = visitor.get(f"/media/{name}")
            assert answer.status == 404 and b"secret" not in answer.body and str(place).encode() not in answer.body
        assert visitor.enter("Anna")["page"]
    assert len(told) == 1 and media.file in told[0]


def test_links_within_the_study_are_its_own(folder: Path, copy: Path):
    study = open_study(copy)
    name = next(iter(study.media))
    with served(study, copy) as port:  # its media folder is a link to another study's
        assert Visitor(port).get(f"/media/{name}").status == 404
    (copy / "media").unlink()
    (copy / "real").mkdir()
    for file in (folder / "media").iterdir():
        (copy / "real" / file.name).write_bytes(file.read_bytes())
    (copy / "media").symlink_to("real")
    with served(study, copy) as port:
        assert Visitor(port).get(f"/media/{name}").status == 200
