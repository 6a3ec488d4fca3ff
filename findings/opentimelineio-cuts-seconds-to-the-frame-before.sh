#!/usr/bin/env bash
# OpenTimelineIO 0.18.1. The start of frame 29 at 25 frames a second is 1.16 s, and RationalTime.from_seconds(1.16, 25) should be
# frame 29. It prints as RationalTime(29, 25), and as seconds it is 1.16 again, but to_frames() is 28 and to_timecode() 00:00:01:03:
# the value is 28.999999999999996, and both cut off what follows the point. So it goes with 69 of the first 1000 frames at 25
# a second, with 83 at 23.976, 18 at 30 and none at 24. A list of shots with times in seconds, as most sets of videos have, is
# cut a frame early in some places, and shots of one length come out with two.
# Do instead: RationalTime(round(seconds * rate), rate), or keep frame numbers instead of seconds.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check opentimelineio==0.18.1
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

from opentimelineio.opentime import RationalTime

print("OpenTimelineIO", importlib.metadata.version("opentimelineio"))
time = RationalTime.from_seconds(29 / 25, 25)
print(repr(time), "is", time.to_seconds(), "s, frame", time.to_frames(), "and", time.to_timecode())
assert time.to_seconds() == 29 / 25 and time.to_frames() == 28 and time.to_timecode() == "00:00:01:03", "frame 29 is found now"
early = {}
for name, rate in (("24", 24), ("25", 25), ("30", 30), ("23.976", 24000 / 1001), ("29.97", 30000 / 1001)):
    found = [RationalTime.from_seconds(frame / rate, rate).to_frames() - frame for frame in range(1000)]
    early[name] = found.count(-1)
    assert set(found) <= {0, -1}
    assert all(RationalTime(round(frame / rate * rate), rate).to_frames() == frame for frame in range(1000))
print("frames of 1000 that become the one before, by rate:", early)
assert early == {"24": 0, "25": 69, "30": 18, "23.976": 83, "29.97": 22}
EOF
