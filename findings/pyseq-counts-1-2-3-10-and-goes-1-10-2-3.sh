#!/usr/bin/env bash
# pyseq 0.9.3. get_sequences of clip_1.png to clip_12.png should give a sequence that goes through its files by frame, as its print
# (clip_1-12.png), start(), end() and frames() (1, 2, 3 ... 12) say.
# frames() is sorted by number and the sequence itself is not: a folder or list is sorted as text first, and so the files come as 1,
# 10, 11, 12, 2, 3 ... sequence[1] is frame 10, zip(sequence.frames(), sequence) names all files but the first wrongly, and a clip
# that is made of the files in their order jumps. iget_sequences sorts the same names by number. Padded names are not hurt.
# Do instead: sorted(sequence, key=lambda item: item.frame), or iget_sequences.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyseq==0.9.3
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata, pathlib

import pyseq

print("pyseq", importlib.metadata.version("pyseq"))
numbers = list(range(1, 13))
for digits in (4, 1):
    folder = pathlib.Path(f"of-{digits}")
    folder.mkdir()
    for number in numbers:
        (folder / f"clip_{number:0{digits}}.png").touch()
    sequence, = pyseq.get_sequences(str(folder))
    other, = pyseq.iget_sequences(str(folder))
    names = [f"clip_{number:0{digits}}.png" for number in numbers]
    assert [item.name for item in other] == names and list(sequence.frames()) == numbers and sequence.end() == 12
    order = [item.frame for item in sequence]
    print(f"{sequence}: frames() {list(sequence.frames())}, files {order}, the second {sequence[1].name}")
    if digits == 4:
        assert [item.name for item in sequence] == names
    else:
        assert order == [1, 10, 11, 12, 2, 3, 4, 5, 6, 7, 8, 9], "files are sorted by frame now"
        assert [item.name for item in sorted(sequence, key=lambda item: item.frame)] == names
names = [f"clip_{number}.png" for number in numbers]
sequence, = pyseq.get_sequences(names)
print("of a list in order:", [item.frame for item in sequence])
assert [item.frame for item in sequence] == order
EOF
