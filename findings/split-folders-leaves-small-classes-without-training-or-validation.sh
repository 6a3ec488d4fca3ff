#!/usr/bin/env bash
# split-folders 0.6.1. ratio(input, output, ratio=(.8, .1, .1)) splits each class, which is a folder of clips, into train, val and
# test. The parts should be near the ratio, and a class should be trained on before it is tested; numbers that do not divide are
# rounded. The numbers for train and val are cut down to integers for each class, and test takes what is left. A class of one clip
# is in test alone, so that its caption is scored and never trained on. No class of fewer than ten has a clip in val. Nine clips
# are 7, 0 and 2; nineteen are 15, 1 and 3. A hundred classes of nine clips, 900 in all, have no validation set at all, and 22 %
# are test. No warning says so. With two parts, ratio=(.8, .2), val takes the rest, and one clip is in val alone.
# Do instead: count the parts of each class afterwards, use fixed=(1, 1), or split the list of all clips yourself.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check split-folders==0.6.1
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata, warnings
from pathlib import Path

import splitfolders

warnings.simplefilter("error")
print("split-folders", importlib.metadata.version("split-folders"))
expected = {1: (0, 0, 1), 4: (3, 0, 1), 9: (7, 0, 2), 10: (8, 1, 1), 19: (15, 1, 3), 20: (16, 2, 2)}
for clips in expected:
    folder = Path("clips", f"class-of-{clips}")
    folder.mkdir(parents=True)
    for number in range(clips):
        (folder / f"{number:03}.mp4").write_bytes(b"a clip")
splitfolders.ratio("clips", output="split", seed=0, ratio=(0.8, 0.1, 0.1))
for clips, parts in expected.items():
    found = tuple(len(list(Path("split", part, f"class-of-{clips}").iterdir())) for part in ("train", "val", "test"))
    print(f"{clips:2} clips: train {found[0]:2}, val {found[1]}, test {found[2]}")
    assert found == parts
for number in range(100):
    folder = Path("many", f"class-{number}")
    folder.mkdir(parents=True)
    for clip in range(9):
        (folder / f"{clip}.mp4").write_bytes(b"a clip")
splitfolders.ratio("many", output="parts", seed=0, ratio=(0.8, 0.1, 0.1))
found = [len(list(Path("parts", part).rglob("*.mp4"))) for part in ("train", "val", "test")]
print("a hundred classes of nine clips: train, val, test", found)
assert found == [700, 0, 200]
splitfolders.ratio("clips", output="two", seed=0, ratio=(0.8, 0.2))
assert [len(list(Path("two", part, "class-of-1").iterdir())) for part in ("train", "val")] == [0, 1]
EOF
