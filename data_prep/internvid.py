"""InternVid: its metadata (one object per line) and your own copies of the videos, whole or cut into clips.

--videos is a folder of whole videos named by their YouTube id (ID.mp4, or "Title [ID].mp4"), from which clips are cut at
their timestamps, or of ready-made clips: ID_START_END.mp4, with or without colons in the times, or with --clip-names line
NUMBER.mp4, where NUMBER is the line of the metadata, from 0. Missing videos are counted in a table and skipped;
--check-only prints only the table. Nothing is downloaded: --download-list FILE writes the addresses of missing videos, and
prints a command that fetches them.
"""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

from tqdm import tqdm

from cdcd_video.errors import UserError
from cdcd_video.storage.small_file import open_plain
from cdcd_video.storage.whole_file import refused_by_disk, whole_file
from data_prep.internvid_clips import Clips, Wanted
from data_prep.internvid_rows import COLUMNS, Metadata
from data_prep.items import digest_items
from data_prep.prepare import Plan, Settings
from data_prep.recipes import RECIPES, Recipe
from data_prep.tables import layout
from data_prep.videos import Videos

_ADDRESS = "https://www.youtube.com/watch?v="


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    parser.add_argument(
        "--metadata", required=True, type=Path, metavar="FILE", help="metadata file: .jsonl or .jsonl.gz"
    )
    parser.add_argument(
        "--videos", required=True, type=Path, metavar="DIR", help="folder of whole videos or ready-made clips"
    )
    parser.add_argument(
        "--clip-names",
        choices=("id", "line"),
        default="id",
        help="name ready-made clips by id and times, or by line number (%(default)s)",
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="KEY=NAME",
        help=f"name of the column of KEY: {', '.join(COLUMNS)}",
    )
    for score in ("aesthetic", "umt"):
        parser.add_argument(f"--min-{score}", type=float, metavar="X", help="leave out clips with a smaller score")
    parser.add_argument("--min-duration", type=float, metavar="S", help="leave out clips shorter than S seconds")
    parser.add_argument("--max-duration", type=float, metavar="S", help="leave out clips longer than S seconds")
    parser.add_argument("--one-per-video", action="store_true", help="use only the first available clip of each video")
    parser.add_argument("--val-share", type=float, default=0.1, help="share of videos in the split val (%(default)s)")
    parser.add_argument(
        "--check-only", action="store_true", help="report what is there and what is missing, and write nothing"
    )
    parser.add_argument(
        "--download-list", type=Path, metavar="FILE", help="only write the addresses of missing videos to FILE"
    )
    Settings.add_options(parser, needs_out=False)


def run(options: argparse.Namespace) -> Plan | str:
    """Finds the clips, or only reports what is there."""
    is_dry = options.check_only or options.download_list is not None
    settings = None if is_dry else Settings.of(options)
    if not 0 <= options.val_share < 1:
        raise UserError(f"--val-share must be at least 0 and below 1, not {options.val_share}")
    metadata = Metadata(options.metadata, _renamed(options.column))
    wanted = Wanted(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Wanted)})
    for score in ("aesthetic", "umt"):
        if getattr(wanted, f"min_{score}") is not None and score not in metadata.columns:
            raise UserError(
                f"{metadata.path} has no column {COLUMNS[score][0]}, so --min-{score} cannot be used; leave it out"
            )
    is_new = options.download_list is not None and not options.videos.exists()
    videos = Videos(options.videos, {}, 0) if is_new else Videos.of(options.videos)
    clips = Clips(
        metadata,
        wanted,
        videos,
        by_line=options.clip_names == "line",
        val_share=options.val_share,
        note_missing=options.download_list is not None,
    )
    size = None if metadata.is_packed else options.metadata.stat().st_size
    with tqdm(total=size, unit="B", unit_scale=True, desc=metadata.path.name, file=sys.stderr) as progress:
        metadata.on_bytes = progress.update
        digest = digest_items(clips)
    metadata.on_bytes = None
    table = table_of(clips)
    if options.download_list is not None:
        return f"{table}\n{_write_list(options.download_list, clips, options.videos)}"
    if settings is None:
        return table
    sys.stderr.write(f"{table}\n")
    if not clips.num_here:
        raise UserError(f"none of the wanted clips is in {options.videos}; see the table above, and --download-list")
    recipe = {
        "recipe": "internvid",
        "metadata": metadata.path.name,
        "metadata_sha256": metadata.sha256,
        "clip_names": options.clip_names,
        "val_share": options.val_share,
        **dataclasses.asdict(wanted),
    }
    return Plan(clips, settings, recipe, counted=digest, subset="hash")


def table_of(clips: Clips) -> str:
    """A table of how many lines of the metadata were used or skipped in the last pass, and why."""
    meanings = {
        "lines": "lines",
        "unusable": "cannot be used; rejected.jsonl will list them",
        "aesthetic score": "under --min-aesthetic",
        "UMT score": "under --min-umt",
        "too short": "under --min-duration",
        "too long": "over --max-duration",
        "repeated": "repeated",
        "further clip": "further clips of a video that is there",
        "missing": "wanted, not there",
        "in whole videos": "there, to be cut from whole videos",
        "ready-made": "there, ready-made",
    }
    always = ("lines", "missing", "in whole videos", "ready-made")
    return layout([[clips.tally[key], text] for key, text in meanings.items() if clips.tally[key] or key in always])


def _renamed(pairs: list[str]) -> dict[str, str]:
    renamed = {}
    for pair in pairs:
        key, equals, name = pair.partition("=")
        if key not in COLUMNS or not equals or not name:
            raise UserError(f"--column {pair}: it must be KEY=NAME, with a KEY of {', '.join(COLUMNS)}")
        renamed[key] = name
    return renamed


def _write_list(file: Path, clips: Clips, videos: Path) -> str:
    """Writes the addresses of missing videos, and returns a command that downloads them."""
    with refused_by_disk(file):
        if file.exists() and open_plain(file, "the list").read(len(_ADDRESS)) not in (b"", _ADDRESS.encode()):
            raise UserError(f"{file} exists and is not a list of addresses; choose another file")
    with whole_file(file) as part:
        part.write_text("".join(f"{_ADDRESS}{video}\n" for video in clips.missing), encoding="ascii")
    command = ["yt-dlp", "--batch-file", str(file), "--paths", str(videos), "--output", "%(id)s.%(ext)s"]
    command += ["--format", "bv*[height<=480]/b[height<=480]", "--download-archive", str(videos / "downloaded.txt")]
    command += ["--limit-rate", "2M", "--sleep-requests", "1", "--sleep-interval", "5", "--max-sleep-interval", "20"]
    command += ["--no-overwrites", "--ignore-errors"]
    return (
        f"{len(clips.missing):,} videos are missing; their addresses are in {file}. Nothing was downloaded. If YouTube's "
        f"terms and the videos' licences allow you to, this downloads them slowly:\n{shlex.join(command)}"
    )


RECIPES.register("internvid")(Recipe(__doc__, add_options, run))
