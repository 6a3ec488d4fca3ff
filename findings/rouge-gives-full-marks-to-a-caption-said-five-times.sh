#!/usr/bin/env bash
# rouge 1.0.1. A model that says the right caption five times over should lose precision: four fifths of its words are too many, and
# rouge-score 0.1.2, the other usual library, gives it an F of 0.33. rouge gives ROUGE-L and ROUGE-1 of 1, and ROUGE-2 of 0.93.
# It counts each n-gram once however often it stands there, and for ROUGE-L takes the length of a text to be the number of its
# different words. The commonest fault of captioning models, to repeat themselves, is not seen at all, and "a dog and a cat and a
# cat" equals "a dog and a cat". It does not fold case either: a capital letter at the start costs an eighth here.
# Do instead: rouge-score, or Rouge(exclusive=False) on lower-case texts.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check rouge==1.0.1 rouge-score==0.1.2 numpy==2.4.6
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

from rouge import Rouge
from rouge_score.rouge_scorer import RougeScorer

print("rouge", importlib.metadata.version("rouge"), "rouge-score", importlib.metadata.version("rouge-score"))
reference = "a man walks his dog in the park"
names = {"rouge-1": "rouge1", "rouge-2": "rouge2", "rouge-l": "rougeL"}
scorer = RougeScorer(list(names.values()))


def scores(caption, rouge=Rouge(), reference=reference):
    """F of ROUGE-1, ROUGE-2 and ROUGE-L by each of the two libraries."""
    found, other = rouge.get_scores(caption, reference)[0], scorer.score(reference, caption)
    return [round(found[name]["f"], 3) for name in names], [round(other[name].fmeasure, 3) for name in names.values()]


five = " ".join([reference] * 5)
for name, caption in (("once", reference), ("five times", five), ("with a capital letter", reference.capitalize())):
    found, other = scores(caption)
    print(f"the reference {name}: rouge {found}, rouge-score {other}")
assert scores(reference) == ([1, 1, 1], [1, 1, 1])
assert scores(five)[0] == [1, 0.933, 1], "repeated words are counted now"
assert scores(five)[1] == [0.333, 0.304, 0.333]
assert scores(reference.capitalize()) == ([0.875, 0.857, 0.875], [1, 1, 1])
counted = scores(five, Rouge(exclusive=False))[0]
print("five times, exclusive=False:", counted)
assert counted == [0.333, 0.304, 0.333]
twice = scores("a dog and a cat and a cat", reference="a dog and a cat")
print("'a dog and a cat and a cat' for 'a dog and a cat':", *twice)
assert twice[0][0] == twice[0][2] == 1 and twice[1][0] < 0.8
EOF
