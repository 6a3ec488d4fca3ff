"""Lists and downloads weights of feature networks, each pinned by its hash."""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code


def main() -> None:
    parser = OptionParser(prog="python -m cdcd_video.tools.weights", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list the known weights and those that are present")
    get = commands.add_parser("get", help="download weights; no other command does")
    get.add_argument("names", nargs="+", metavar="NAME")
    args = parser.parse_args()

    from cdcd_video.metrics.features import feature_weights

    if args.command == "list":
        print(f"folder: {feature_weights.folder()} (set {feature_weights.FOLDER_VARIABLE} for another)")
        for name, wanted in feature_weights.WEIGHTS.items():
            state = "present" if feature_weights.is_here(name) else f"{wanted.megabytes} MB"
            print(f"{name:12} {state:>7}  {wanted.file}  sha256 {wanted.sha256}")
        return
    for name in args.names:
        if name not in feature_weights.WEIGHTS:
            raise UserError(f"there are no weights {name!r}; choose from {', '.join(feature_weights.WEIGHTS)}")
    for name in args.names:
        print(fetch(name))


def fetch(name: str) -> Path:
    """Downloads one of `weights.WEIGHTS` into the folder; the file appears there only once its hash is right.

    Raises:
      UserError: the download failed, or has another hash.
    """
    from tqdm import tqdm

    from cdcd_video.engine import runtime
    from cdcd_video.metrics.features import feature_weights

    wanted, folder = feature_weights.WEIGHTS[name], feature_weights.folder()
    path, part = folder / wanted.file, folder / f"{wanted.file}.part"
    by_hand = f"download it by a browser and put it into {folder}"
    with runtime.writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with urllib.request.urlopen(wanted.url, timeout=60) as answer, part.open("wb") as file:
                size = int(answer.headers.get("Content-Length") or 0) or None
                with tqdm(total=size, desc=wanted.file, unit="B", unit_scale=True) as bar:
                    while chunk := answer.read(1 << 20):
                        file.write(chunk)
                        bar.update(len(chunk))
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            part.unlink(missing_ok=True)
            raise UserError(f"{wanted.url} cannot be downloaded ({error}); {by_hand}") from error
        if not feature_weights.is_content_of(wanted, part.read_bytes()):
            part.unlink()
            raise UserError(f"{wanted.url} sent a file with another hash than {wanted.file}; {by_hand}")
        os.replace(part, path)
    return path


if __name__ == "__main__":
    sys.exit(exit_code(main))
