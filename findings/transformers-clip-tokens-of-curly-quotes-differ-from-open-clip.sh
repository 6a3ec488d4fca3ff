#!/usr/bin/env bash
# transformers 5.1.0 and open_clip_torch 3.3.0. With the same vocabulary and merges, CLIPTokenizer and
# open_clip's tokenizer (which cleans text as the original CLIP did) should give the same tokens.
# They do for plain text. Of "it's" with a typographic apostrophe, of curly quotes, HTML entities
# (&amp;) and ligatures they do not, even with ftfy installed: open_clip straightens quotes and unescapes
# entities, transformers leaves them, as bytes that CLIP seldom met, since it learned from cleaned text.
# Captions scraped from the web are full of these; CLIP scores by the two are not comparable.
# Do instead: ftfy.fix_text and html.unescape (twice) on captions before CLIPTokenizer.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 transformers==5.1.0 numpy==2.4.6 ftfy==6.3.1 regex==2026.11.19
"$work/venv/bin/pip" install -qq --no-deps --disable-pip-version-check open_clip_torch==3.3.0
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import gzip, importlib.metadata, importlib.util, html, pathlib
import ftfy, transformers

print("transformers", transformers.__version__, "open_clip_torch", importlib.metadata.version("open_clip_torch"))
# Only the one file, as the whole package needs torchvision.
folder = pathlib.Path(importlib.metadata.distribution("open_clip_torch").locate_file("open_clip"))
spec = importlib.util.spec_from_file_location("tokenizer", folder / "tokenizer.py")
tokenizer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tokenizer)
open_clip = tokenizer.SimpleTokenizer()
lines = gzip.open(folder / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8").read().split("\n")
merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
clip = transformers.CLIPTokenizer(vocab=dict(open_clip.encoder), merges=merges)


def words(tokens):
    return [open_clip.decoder[token] for token in tokens]


def same(text):
    return clip(text)["input_ids"][1:-1] == open_clip.encode(text)


for text in ("a red car, 1990s", "it's a dog", "We'll  WAIT..."):
    assert same(text), f"Plain text gives other tokens: {text}"
for text in ("it\u2019s a dog", "\u201cquoted\u201d", "rock &amp; roll", "\ufb01re"):
    cleaned = html.unescape(html.unescape(ftfy.fix_text(text)))
    print(f"{text!a}: open_clip {ascii(words(open_clip.encode(text)))}, transformers {ascii(words(clip(text)['input_ids'][1:-1]))}")
    assert not same(text), f"Both now give the same tokens of {text!a}."
    assert same(cleaned), f"Cleaned text gives other tokens: {cleaned!a}"
EOF
