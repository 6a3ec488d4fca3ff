"""Checks that nobody else can have written a file, before it is run as code."""

import errno
import os
import stat
from pathlib import Path

from cdcd_video.errors import UserError

_MOST_LINKS = 40


class NotOwn(UserError):
    """A path whose content somebody else can change."""

    def __init__(self, path: Path, at: str, reason: str):
        where = "it" if at == str(path) else at
        super().__init__(
            f"{path} is not used: {where} {reason}, so others could put code there; choose a folder of your own"
        )


def check_own(path: str | os.PathLike[str]) -> None:
    """Refuses a path unless it, every folder above it and every link on the way is the user's or root's, and nobody else may
    write there. Folders above may be open to all where only owners may rename (the sticky bit of /tmp).

    Args:
      path: of a file or a folder that exists.

    Raises:
      NotOwn: names the first place that belongs to another, or where another may write.
      OSError: there is nothing at the path.
    """
    if not hasattr(os, "getuid"):  # Windows knows no such owners
        return
    path = Path(path)
    at, left, num_links = os.path.sep, list(reversed(Path.cwd().joinpath(path).parts[1:])), 0
    _check(path, at, os.lstat(at), is_above=bool(left))
    while left:  # as the system walks it, so that no link on the way is missed
        name = left.pop()
        if name == os.pardir:
            at = os.path.dirname(at)
            continue
        step = os.path.join(at, name)
        status = os.lstat(step)
        if stat.S_ISLNK(status.st_mode):
            _check_owner(path, step, status)
            num_links += 1
            if num_links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = os.readlink(step)
            if os.path.isabs(target):
                at = os.path.sep
            left += [part for part in reversed(target.split(os.path.sep)) if part not in ("", os.curdir)]
        else:
            _check(path, step, status, is_above=bool(left))
            at = step


def _check(path: Path, at: str, status: os.stat_result, is_above: bool) -> None:
    _check_owner(path, at, status)
    is_sticky = is_above and bool(status.st_mode & stat.S_ISVTX)
    if status.st_mode & stat.S_IWOTH and not is_sticky:
        raise NotOwn(path, at, "is writable by everybody")
    if status.st_mode & stat.S_IWGRP and not is_sticky and not _is_nobody_else_in(status.st_gid):
        raise NotOwn(path, at, "is writable by a group")


def _check_owner(path: Path, at: str, status: os.stat_result) -> None:
    if status.st_uid not in (os.getuid(), 0):
        raise NotOwn(path, at, f"belongs to user {status.st_uid}")


def _is_nobody_else_in(group: int) -> bool:
    """Whether it is the user's own group, as many systems make one for each user, whose folders it may write."""
    import grp
    import pwd

    try:
        me, known = pwd.getpwuid(os.getuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return known.gr_gid == me.pw_gid and known.gr_name == me.pw_name and set(known.gr_mem) <= {me.pw_name}
