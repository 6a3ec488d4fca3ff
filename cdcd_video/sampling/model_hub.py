"""Models as folders that can be handed on: saved, and brought to or from the Hub by huggingface_hub. Safetensors only."""

import contextlib
import fnmatch
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cdcd_video.errors import UserError
from cdcd_video.model import SHIPPED, Model, folder_of, save_module
from cdcd_video.storage.folder_lock import folder_lock
from cdcd_video.video import refused_by_disk

WEIGHTS = ("codec.safetensors", "denoiser.safetensors")
"""Written from memory, so that what was changed there is saved."""
FILES = (
    *WEIGHTS,
    *("config.yaml", "model.json", "round_trip.json", "README.md"),
    *("clip/*.json", "clip/*.txt", "clip/*.safetensors"),
)
"""All that belongs to a model folder; nothing else is downloaded or uploaded, and no pickle is among it."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def find_model(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    token: str | bool | None = None,
) -> Path:
    """The folder of a model: shipped, on this machine, or `owner/name` on the Hub, which is downloaded to the Hub's cache.

    What is on this machine goes before the Hub, and a name whose first part is a folder here is no name of the Hub.

    Args:
      name_or_path, revision, cache_dir, local_files_only, force_download, token: see `ImageToVideo.from_pretrained`.

    Raises:
      UserError: there is no such model, it cannot be reached, or it is another kind of model.
    """
    if not isinstance(name_or_path, str | os.PathLike) or not os.fspath(name_or_path):
        raise UserError(
            f"the model is {name_or_path!r}; give the name of a shipped model, such as sprites, a folder, or owner/name on the"
            " Hub"
        )
    below_home = os.path.expanduser(os.fspath(name_or_path))
    name_or_path = below_home if isinstance(name_or_path, str) else Path(below_home)
    try:
        folder = folder_of(name_or_path)
    except UserError:
        path = Path(name_or_path)
        is_local = isinstance(name_or_path, Path) or path.exists() or path.parent.is_dir()
        if is_local or not _HUB_NAME.fullmatch(str(name_or_path)):
            raise
    else:
        if revision is not None:
            raise UserError(
                f"revision is {revision!r}, but {name_or_path} is on this machine, where it has none; leave it out"
            )
        return folder
    return _downloaded(str(name_or_path), revision, cache_dir, local_files_only, force_download, token)


def _downloaded(
    name: str,
    revision: str | None,
    cache_dir: str | Path | None,
    local_files_only: bool,
    force_download: bool,
    token: str | bool | None,
) -> Path:
    from huggingface_hub import snapshot_download

    with _hub_errors(name, revision):
        folder = Path(
            snapshot_download(
                name,
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                force_download=force_download,
                token=token,
                allow_patterns=list(FILES),
            )
        )
    lacking = [file for file in ("config.yaml", "model.json", *WEIGHTS) if not (folder / file).is_file()]
    if lacking:
        raise UserError(
            f"{name} on the Hub is not a model of this project: it has no {' and no '.join(lacking)}; give a repository that"
            " push_to_hub has written"
        )
    return folder


def save_model(model: Model, folder: str | Path) -> Path:
    """Writes a model folder that `from_pretrained` loads, with the same bits: all of it appears, or nothing.

    Args:
      model: loaded from a folder; the weights of codec and denoiser are written as they are in memory, in 16 bits, and the
        other files are copied.
      folder: a new or empty folder, or a model folder, which is replaced.

    Raises:
      UserError: the folder holds something else or cannot be written, or the model has no folder of its own.
    """
    if not isinstance(folder, str | os.PathLike):
        raise UserError(f"a model is saved in a folder, not in a {type(folder).__name__}; give the folder's path")
    target = Path(folder).expanduser()
    if model.folder is None:
        raise UserError(
            "a model that is still being trained has no folder to be saved from; give the folder of its run"
        )
    with refused_by_disk(target), folder_lock(target):
        if target.exists() and not target.is_dir():
            raise UserError(f"{target} is a file; give a folder for the model")
        others = [name for name in _names(target) if not _belongs(name)]
        if others:
            raise UserError(f"{target} contains {others[0]}, which is no part of a model; choose a new folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as place:
            part, before = Path(place) / "part", Path(place) / "before"
            for name in _names(model.folder):
                if _belongs(name) and name not in WEIGHTS:
                    (part / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(model.folder / name, part / name)
            save_module(model.codec, part / "codec.safetensors")
            save_module(model.denoiser, part / "denoiser.safetensors")
            if target.exists():
                target.rename(before)
            try:
                part.rename(target)
            except OSError:
                if before.exists():
                    before.rename(target)
                raise
    return target


def push_model(
    model: Model,
    repo_id: str,
    *,
    private: bool | None = None,
    commit_message: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
) -> str:
    """Uploads a model folder in one commit; the repository is made if there is none.

    Args and returns: see `ImageToVideo.push_to_hub`.

    Raises:
      UserError: the Hub cannot be reached or refuses; nothing is uploaded in part.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set, so nothing is uploaded; unset it, or use save_pretrained")
    with tempfile.TemporaryDirectory() as place, _hub_errors(repo_id, revision):
        folder = save_model(model, Path(place) / "model")
        api = HfApi(token=token)
        with _refused_to_write(repo_id):
            repository = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=commit_message or f"Model {model.config.name}",
                revision=revision,
                create_pr=create_pr,
            )
    return str(commit.pr_url if create_pr else commit.commit_url)


@contextlib.contextmanager
def _refused_to_write(name: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        if error.response.status_code not in (401, 403):
            raise
        raise UserError(
            f"the Hub does not let you write {name}; give token=... with the right to write, or sign in with `hf auth login`"
        ) from None


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def _belongs(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in FILES)


@contextlib.contextmanager
def _hub_errors(name: str, revision: str | None) -> Iterator[None]:
    """Turns what the Hub and the way to it refuse into a `UserError`."""
    from huggingface_hub import constants, errors

    shipped = ", ".join(sorted(found.parent.name for found in SHIPPED.glob("*/model.json")))
    at = f"{name} at {revision}" if revision else name
    try:
        yield
    except errors.RevisionNotFoundError:
        raise UserError(f"{name} on the Hub has no revision {revision!r}; give a branch, a tag or a commit") from None
    except errors.GatedRepoError:
        raise UserError(
            f"{name} on the Hub is gated: ask for access on its page, and give token=..., or sign in with `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"there is no model {name!r} on the Hub, or it is private, and no such folder here; check the name, give"
            f" token=... for a private one, or the name of a shipped model ({shipped})"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        if constants.HF_HUB_OFFLINE:
            why = "HF_HUB_OFFLINE is set; unset it once"
        elif error.__cause__ is None:
            revised = f" --revision {revision}" if revision else ""
            why = f"local_files_only is given; leave it out once, run `hf download {name}{revised}`"
        else:
            why = f"the Hub cannot be reached ({_reason(error.__cause__)}); connect once"
        raise UserError(
            f"{at} is neither a folder here nor in the Hub's cache, and {why}, or copy its folder to this machine and give"
            " its path"
        ) from None
    except errors.LocalTokenNotFoundError:
        raise UserError("token is True, but no token is stored here; sign in with `hf auth login`") from None
    except errors.HFValidationError as error:
        raise UserError(f"{name!r} is no name of the Hub ({_reason(error)}); give owner/name") from None
    except errors.HTTPError as error:  # of the library that huggingface_hub asks with, on any failure on the way
        raise UserError(f"the Hub did not answer as expected about {at} ({_reason(error)}); try again later") from None


def _reason(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
