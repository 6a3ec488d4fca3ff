#!/usr/bin/env bash
# pycocoevalcap 1.2. A caption that equals its reference should have the best value of a score: 10 of CIDEr, 1 of BLEU-4 and
# ROUGE-L. ROUGE-L gives 1. CIDEr gives 2.5 for each length of n-gram that the caption has, so that perfect captions of one, two
# and three words have 2.5, 5 and 7.5; BLEU-4 gives them 0.00003, 0.001 and 0.03, as missing n-grams count as wrong with a small
# constant. A perfect model on references of which half have three words scores 8.75 by CIDEr. CIDEr also weighs by how rare a
# word is among the references of this very call: a single video, or videos with the same caption (as of one class, or several
# samples of one prompt), score 0 for a perfect caption; words that all references share count for nothing. So CIDEr of subsets
# cannot be compared or averaged. Do instead: score the whole set at once, and the references themselves beside it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pycocoevalcap==1.2 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

print("pycocoevalcap", importlib.metadata.version("pycocoevalcap"))
captions = ["snow", "two men", "a dog runs", "a cat sits still", "the girl in blue rides her horse fast"]
references = {number: [caption] for number, caption in enumerate(captions)}
cider = Cider().compute_score(references, references)[1]
bleu = Bleu(4).compute_score(references, references, verbose=0)[1][3]
rouge = Rouge().compute_score(references, references)[1]
for caption, *scores in zip(captions, cider, bleu, rouge):
    print(f"{caption!r} for itself: CIDEr {scores[0]:.2f}, BLEU-4 {scores[1]:.5f}, ROUGE-L {scores[2]:.2f}")
assert [round(float(score), 3) for score in cider] == [2.5, 5, 7.5, 10, 10], "short captions have another CIDEr now"
assert bleu[0] < 1e-4 and bleu[2] < 0.04 and bleu[3] > 0.999 and min(rouge) > 0.999
for name, same in (("one video", captions[4:]), ("three videos of one caption", captions[4:] * 3)):
    some = {number: [caption] for number, caption in enumerate(same)}
    mean = float(Cider().compute_score(some, some)[0])
    print(f"{name}, perfect captions: CIDEr {mean:.2f}")
    assert mean == 0
EOF
