#!/usr/bin/env bash
# x-transformers 2.31.10. AutoregressiveWrapper.generate(prompts, length) has temperature 1, so that tokens should be drawn with the
# probabilities of the model: of nearly equal ones each comes up at some time.
# By default only a tenth of the vocabulary is drawn from, the likeliest tokens, for filter_logits_fn is top_k and a tenth its
# default. An untrained model of 1024 tokens gives 103 of them in 5,000 draws, which have a quarter of the probability, and one
# of 8 or 10 tokens (levels of an image, moves) always the same sequence, as temperature=0 does, without a word. Codes of a VQ that
# are spread widely lose most of their variety, and perplexity and samples are of two distributions.
# Do instead: generate(..., filter_logits_fn=lambda logits: logits), or filter_kwargs=dict(k=...).
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 numpy==2.4.6 x-transformers==2.31.10
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import torch
from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

print("x-transformers", importlib.metadata.version("x-transformers"))


def model(tokens):
    torch.manual_seed(0)
    layers = Decoder(dim=16, depth=1, heads=2)
    return AutoregressiveWrapper(TransformerWrapper(num_tokens=tokens, max_seq_len=32, attn_layers=layers)).eval()


def everything(logits):
    return logits


seen = {}
wide, start = model(1024), torch.zeros(5000, 1, dtype=torch.long)
with torch.no_grad():
    chances = wide.net(start[:1])[0, -1].softmax(-1)
seen[1024] = len(wide.generate(start, 1).unique())
whole = len(wide.generate(start, 1, filter_logits_fn=everything).unique())
share = chances.topk(seen[1024]).values.sum().item()
print(f"1024 tokens: {seen[1024]} come up in 5,000 draws, the likeliest, with {share:.2f} of the probability; unfiltered {whole}")
for tokens in (8, 10):
    small = model(tokens)
    seen[tokens] = len(small.generate(start[:200], 4).unique(dim=0))
    free = len(small.generate(start[:200], 4, filter_logits_fn=everything).unique(dim=0))
    print(f"{tokens} tokens: 200 samples of four tokens are {seen[tokens]} sequence; unfiltered {free}")
    assert seen[tokens] == 1 and free > 100, "samples of small vocabularies vary now"
assert seen[1024] == 103 and share < 0.5 and whole > 900, "generate no longer draws from a tenth of the tokens"
EOF
