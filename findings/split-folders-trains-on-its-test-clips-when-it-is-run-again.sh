#!/usr/bin/env bash
# split-folders 0.6.1. ratio(input, output, seed=...) copies clips into output/train, output/val and output/test. Run again, with
# another seed or another ratio, or after clips have been added, it should replace what it made before, or refuse a folder that is
# not empty. It copies the new split in between the old one, with no warning. 100 clips of a class, split with seed 0 and then
# with seed 1, are 94 in train, of which 28 are in val or in test too: clips are trained on and tested on. Adding five clips and
# splitting again with the same seed does it to three, for the order is drawn anew over all of them. Scores on such a test set are
# too good.
# Do instead: delete the output folder before each run, or use a new one.
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
clips = Path("clips", "dance")
clips.mkdir(parents=True)
for number in range(100):
    (clips / f"{number:03}.mp4").write_bytes(b"a clip")


def parts(folder):
    return {part: {path.name for path in Path(folder, part).rglob("*.mp4")} for part in ("train", "val", "test")}


def leaked(found):
    """Clips that are trained on and held out at once."""
    return found["train"] & (found["val"] | found["test"])


splitfolders.ratio("clips", output="once", seed=0)
found = parts("once")
print("once:", {part: len(names) for part, names in found.items()}, "- in train and held out:", len(leaked(found)))
assert [len(names) for names in found.values()] == [80, 10, 10] and not leaked(found)
splitfolders.ratio("clips", output="once", seed=1)
found = parts("once")
print("again with another seed:", {part: len(names) for part, names in found.items()}, "- in both:", len(leaked(found)))
assert len(found["train"]) == 94 and len(leaked(found)) == 28
splitfolders.ratio("clips", output="grown", seed=0)
for number in range(100, 105):
    (clips / f"{number:03}.mp4").write_bytes(b"a clip")
splitfolders.ratio("clips", output="grown", seed=0)
found = parts("grown")
print("again after five clips more:", {part: len(names) for part, names in found.items()}, "- in both:", len(leaked(found)))
assert len(leaked(found)) == 3
EOF
