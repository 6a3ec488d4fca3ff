#!/usr/bin/env bash
# fileseq 3.4.0. findSequencesOnDisk of a folder with clip-1.png, clip-2.png, clip-3.png and clip-10.png should give one sequence
# that goes through frames 1, 2, 3 and 10 in this order, as it does for clip_1.png or clip.1.png.
# A hyphen before the number is taken for its sign. The frames are -10, -3, -2 and -1, and so the sequence goes from the last file
# to the first: every path is right and exists, their number is right, and the clip plays backwards. Padded numbers, as in
# clip-0001.png, are no better. "clip-0.png" is frame 0 and comes at the end.
# Names with hyphens are common (frame-0001.png), and reversed clips are seen by nobody who looks at single frames; a caption "moves
# left" is then wrong. fileseq supports negative frames on purpose, and nothing tells it that there are none.
# Do instead: rename, or sort by abs(frame): sorted(sequence.frameSet(), key=abs); a sequence whose start() is negative is suspect.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check fileseq==3.4.0
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata, pathlib

import fileseq

print("fileseq", importlib.metadata.version("fileseq"))


def order(kind, numbers, digits=1):
    """The frames of a folder of files named clip, kind and a number, in the order in which fileseq gives them."""
    folder = pathlib.Path(f"{len(list(pathlib.Path().iterdir()))}")
    folder.mkdir()
    for number in numbers:
        (folder / f"clip{kind}{number:0{digits}}.png").touch()
    sequence, = fileseq.findSequencesOnDisk(str(folder))
    assert sorted(sequence) == sorted(map(str, folder.iterdir())), "a file is missing or another"
    return [int(pathlib.Path(path).stem.split(kind)[-1]) for path in sequence], sequence.start(), sequence.end()


numbers = [1, 2, 3, 10]
for kind in ("_", ".", "-"):
    for digits in (1, 4):
        found, start, end = order(kind, numbers, digits)
        print(f"clip{kind}{1:0{digits}}.png and others: files {found}, frames {start} to {end}")
        if kind == "-":
            assert (found, start, end) == (numbers[::-1], -10, -1), "a hyphen is no longer a sign"
        else:
            assert (found, start, end) == (numbers, 1, 10)
found, start, end = order("-", range(4))
print(f"clip-0.png to clip-3.png: files {found}, frames {start} to {end}")
assert found == [3, 2, 1, 0]
EOF
