"""Makes a study from folders of videos: matches the files, copies them, adds the checks."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cdcd_video import video
from cdcd_video.data.clips import DecodedClip
from cdcd_video.data.images import read_image
from cdcd_video.data.prompt_table import picture_of, texts_of
from cdcd_video.data.tables import read_rows
from cdcd_video.errors import UserError, is_text
from cdcd_video.rate.origins import Origin, check_alike, origin_of
from cdcd_video.rate.shelf import Shelf, first_frame
from cdcd_video.rate.study import Item, Recipe, Study

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv")


def make(recipe: Recipe, root: Path, folder: Path) -> Study:
    """Makes a study and writes it; the original files are not needed afterwards.

    Args:
      recipe: its options.
      root: of the relative paths in the recipe.
      folder: of the new study.

    Returns:
      The study, as `study.open_study` reads it.

    Raises:
      UserError: a folder, table, video or picture is missing or unusable, or the folder cannot be written.
    """
    if (folder / "study.json").exists():
        raise UserError(f"{folder} already has a study; name another folder, or serve this one")
    if len(recipe.videos) < (2 if recipe.kind == "pair" else 1):
        raise UserError("pairs need two systems: --videos NAME=DIR --videos OTHER=DIR")
    _check_folders({system: root / path for system, path in recipe.videos.items()}, folder)
    found = {system: _videos_in(root / path) for system, path in recipe.videos.items()}
    table = _read_prompts(root / recipe.prompts) if recipe.prompts else None
    every = list(table) if table is not None else sorted(set().union(*found.values()))
    names = [name for name in every if all(name in files for files in found.values())]
    if not names:
        lists = {**({"the table": every} if table is not None else {}), **found}
        has = "; ".join(f"{what} has {_some(sorted(names))}" for what, names in lists.items())
        raise UserError(
            f"no item has a video of every system: {has}; videos are matched by file name without suffix, and by the column"
            " file of the table of prompts; rename the files"
        )
    shelf, clips, items = Shelf(folder), {}, []
    shelf.clear_left()
    try:
        for name in names:
            files = {system: found[system][name] for system in found}
            item, clips[name] = _item(name, files, (table or {}).get(name, {}), recipe, shelf)
            items.append(item)
        chosen = np.random.Generator(np.random.Philox(key=recipe.seed)).permutation(len(items))[: recipe.checks]
        for place in chosen:
            noise = shelf.add_noise(clips[items[place].name], recipe.seed + int(place))
            items[place] = items[place].model_copy(update={"noise": noise})
        study = Study(
            id=secrets.token_hex(8),
            title=recipe.title,
            kind=recipe.kind,
            questions=recipe.questions,
            systems=tuple(recipe.videos),
            items=tuple(items),
            media=shelf.media,
            checks=len(chosen),
            repeats=recipe.repeats,
            tasks_per_rater=recipe.tasks_per_rater,
            seed=recipe.seed,
            left_out=tuple(name for name in every if name not in set(names)),
        )
        with video.whole_file(folder / "study.json") as part:
            part.write_text(study.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except BaseException:
        shelf.clear()
        raise
    return study


def _check_folders(folders: Mapping[str, Path], study: Path) -> None:
    """Refuses what only looks like several systems, and a study among the videos, which are nobody's to delete with it."""
    seen: dict[Path, str] = {}
    for system, folder in folders.items():
        place = folder.resolve()
        if place in seen:
            raise UserError(f"{seen[place]} and {system} have the same folder {folder}; give each system its own")
        if place == study.resolve():
            raise UserError(f"--study {study} is the folder of the videos of {system}; name a new folder for the study")
        seen[place] = system


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _videos_in(folder: Path) -> dict[str, Path]:
    """The videos of a folder by name: `NAME.mp4`, or `NAME/video.mp4` as `inference.py --out NAME/` writes it."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name a folder of videos by --videos NAME=DIR")
    found: dict[str, Path] = {}
    for path in sorted([*folder.iterdir(), *folder.glob("*/video.*")]):
        if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file():
            name = path.stem if path.parent == folder else path.parent.name
            if not is_text(name):
                raise UserError(f"the name of {path} is not UTF-8; rename it")
            if name in found:
                raise UserError(f"{found[name]} and {path} both have the name {name}; rename one")
            found[name] = path
    if not found:
        raise UserError(f"{folder} has no video; it needs files ending in {', '.join(SUFFIXES)}")
    return found


def _read_prompts(path: Path) -> dict[str, dict[str, Any]]:
    rows = {}
    for row in read_rows(path, ("file",), "prompts", ("prompt", "frame"), sentence="prompt"):
        where = f"prompts {path}, line {row.line}"
        texts = texts_of(row, ("file", "prompt", "frame"), where)
        file = texts.pop("file")
        name = Path(file).stem if Path(file).suffix.lower() in SUFFIXES else file
        if name in rows:
            raise UserError(f"{where}: {name} occurs twice; keep one row")
        rows[name] = {key: value for key, value in texts.items() if value}
        if "frame" in rows[name]:
            rows[name]["frame"] = picture_of(path.parent, rows[name]["frame"], where)
    return rows


def _item(
    name: str, files: Mapping[str, Path], row: Mapping[str, Any], recipe: Recipe, shelf: Shelf
) -> tuple[Item, DecodedClip]:
    """An item, and a small copy of one of its videos, which its noise will resemble."""
    origins = {system: origin_of(path) for system, path in files.items()}
    check_alike(name, origins, row)
    known = [origin for origin in origins.values() if origin is not None]
    prompt = str(row.get("prompt") or (known[0].prompt if known else ""))
    if "relevance" in recipe.questions and not prompt.strip():
        raise UserError(
            f"{name} has no prompt; add a table by --prompts, or leave out the question: --questions"
            f" {' '.join(question for question in recipe.questions if question != 'relevance')}"
        )
    videos = {}
    for system, path in files.items():
        videos[system], clip = shelf.add_video(path)
    frame = None
    if "first_frame" in recipe.questions:
        frame = shelf.add_picture(_given_frame(name, files, row, known, recipe))
    return Item(name=name, prompt=" ".join(prompt.split()), frame=frame, videos=videos), clip


def _given_frame(
    name: str, files: Mapping[str, Path], row: Mapping[str, Any], known: Sequence[Origin], recipe: Recipe
) -> UInt8[np.ndarray, "H W 3"]:
    if "frame" in row:
        return read_image(row["frame"])
    if recipe.frames_from is not None:
        return first_frame(files[recipe.frames_from])
    if known:  # all of one picture, as was checked; the largest shows it best
        return max((origin.frame for origin in known), key=lambda frame: frame.shape[0] * frame.shape[1])
    others = " ".join(question for question in recipe.questions if question != "first_frame")
    raise UserError(
        f"{name} has no first frame; add the column frame to the table of prompts, name by --frames-from a system whose"
        f" videos begin with it, or leave out the question: --questions {others}"
    )
