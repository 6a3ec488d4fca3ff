#!/usr/bin/env bash
# pytrec-eval-terrier 0.5.11. Recall at 1 of text-to-video retrieval should be 1 if the right video has the highest score.
# Scores are compared in single precision, and of equal ones the name that sorts last wins. 0.9000000001 against 0.9, or 100.000001
# against 100, is a tie, which the video "a" loses to "b" and the video "b" wins. So duplicates of a clip, similarities that were rounded,
# and logits of 100 times a cosine are ranked by file name: the same scores have a success of 0 or 1 at rank 1 after renaming,
# and a model that gives all videos one score finds each whose name comes last. Sorting in Python or NumPy gives other numbers.
# Do instead: hand over ranks, such as minus the position after argsort, with ties counted against the model.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pytrec-eval-terrier==0.5.11 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

import pytrec_eval

print("pytrec-eval-terrier", importlib.metadata.version("pytrec-eval-terrier"))


def success(right, scores):
    measured = pytrec_eval.RelevanceEvaluator({"a caption": {right: 1}}, {"success_1"}).evaluate({"a caption": scores})
    return measured["a caption"]["success_1"]


for best, other in ((0.9, 0.9), (0.9000000001, 0.9), (100.000001, 100.0), (0.9001, 0.9)):
    named = success("a", {"a": best, "b": other}), success("b", {"b": best, "a": other})
    print(f"right video {best}, other {other}: recall at 1 is {named[0]:g} if the right one is named a, {named[1]:g} if b")
    assert named == ((1, 1) if best - other > 5e-5 else (0, 1)), "nearly equal scores are told apart now"
videos = [f"video{number}" for number in range(7010, 7020)]
same = [success(video, dict.fromkeys(videos, 0.5)) for video in videos]
print("ten videos, all scores equal:", [f"{value:g}" for value in same])
assert same == [0] * 9 + [1]
EOF
