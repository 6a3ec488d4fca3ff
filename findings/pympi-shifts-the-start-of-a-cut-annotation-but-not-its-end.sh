#!/usr/bin/env bash
# pympi-ling 1.71, which reads and writes ELAN's annotations of video. Where the first 1.6 s of a clip are cut off, shift_annotations(-1600)
# should move all annotations: one from 1.5 to 2.0 s then lies from 0 to 0.4 s, "squashed" at the new start, as the manual says.
# Its start becomes 0, but its end stays at 2.0 s: five times as long as it is, over what follows. Annotations that end before the
# cut are removed, and those after it are right, so only the one at the cut is wrong, in every clip that is cut within one. The list of
# squashed annotations that comes back has the old times. One that began at 0 is not moved at all by a shift shorter than itself.
# Do instead: remove and add the squashed ones again, with the end of the list plus the shift.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pympi-ling==1.71
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

from pympi.Elan import Eaf

print("pympi-ling", importlib.metadata.version("pympi-ling"))
labels = [(0, 1000, "waves"), (1500, 2000, "turns"), (3000, 3500, "sits")]


def shifted(by):
    file = Eaf()
    file.add_tier("actions")
    for start, end, label in labels:
        file.add_annotation("actions", start, end, label)
    return file, *file.shift_annotations(by)


def found(file):
    return sorted(file.get_annotation_data_for_tier("actions"))


print("before:", labels)
for by in (500, -600, -1600):
    file, squashed, removed = shifted(by)
    print(f"shifted by {by}: {found(file)}; squashed {squashed}, removed {removed}")
assert found(shifted(500)[0]) == [(start + 500, end + 500, label) for start, end, label in labels]
assert found(shifted(-600)[0]) == [(0, 1000, "waves"), (900, 1400, "turns"), (2400, 2900, "sits")]
file, squashed, removed = shifted(-1600)
assert found(file) == [(0, 2000, "turns"), (1400, 1900, "sits")], "the end of a squashed annotation is moved now"
assert squashed == [("actions", 1500, 2000, "turns")]
for tier, start, end, label in squashed:
    file.remove_annotation(tier, 0)
    file.add_annotation(tier, 0, end - 1600, label)
print("put right:", found(file))
assert found(file) == [(0, 400, "turns"), (1400, 1900, "sits")]
EOF
