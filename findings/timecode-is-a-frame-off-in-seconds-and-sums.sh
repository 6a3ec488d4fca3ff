#!/usr/bin/env bash
# timecode 1.5.1. At 24 frames a second, 1.0 s from the start is the timecode 00:00:01:00 in every player and editor.
# Timecode("24", start_seconds=1.0) is 00:00:00:23, and Timecode("24", "00:00:01:00") as a float is 1.0417 s: seconds are taken for a
# number of frames, and 00:00:00:00 counts as one frame, so that a timecode stands for the end of its frame. 0 s is refused.
# For the same reason 00:00:01:00 plus 00:00:01:00 is 00:00:02:01, and one less itself raises ValueError; plus or minus a whole
# number of frames is right, and so is frame_number, which begins at 0. Shots that are listed in seconds are cut a frame
# early, and times made of timecodes come a frame late, which is most at low frame rates.
# Do instead: go by frame_number and Timecode(rate, frames=number + 1), and divide by the rate yourself.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check timecode==1.5.1
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

from timecode import Timecode

print("timecode", importlib.metadata.version("timecode"))
second = Timecode("24", "00:00:01:00")
made, back = Timecode("24", start_seconds=1.0), second.float
print(f"1.0 s is {made}; {second} is {back:.4f} s, {second.frames} frames, frame_number {second.frame_number}")
assert str(made) == "00:00:00:23" and abs(back - 25 / 24) < 1e-9 and (second.frames, second.frame_number) == (25, 24)
print(f"{second} + {second} = {second + second}; {second} + 24 frames = {second + 24}")
assert str(second + second) == "00:00:02:01" and str(second + 24) == "00:00:02:00"
for what, call in (("start_seconds=0", lambda: Timecode("24", start_seconds=0)), ("a timecode less itself", lambda: second - second)):
    try:
        call()
    except ValueError as error:
        print(f"{what}: ValueError: {error}")
    else:
        raise AssertionError(f"{what} is taken now")
for number in (0, 1, 23, 24, 1000):
    assert Timecode("24", frames=number + 1).frame_number == number
EOF
