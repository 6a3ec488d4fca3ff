#!/usr/bin/env bash
# pycaption 2.3.14. DFXPReader of a TTML file should give every caption, as all <p> stand in the body, whatever <div> they are in.
# The captions of a <div> take the place of those of the one before, where both have the same language: a file of three chapters
# gives the last alone. The times of a <div> and of a <span> are passed over as well: a chapter that begins at 60 s is read as
# beginning at 0, and words that follow each other stand together from the first to the last. Nothing is raised or warned of.
# A file with a <div> for each chapter, reel or region is valid and usual. Clips of the lost ones get no caption, and those of
# later chapters one of another scene.
# Do instead: read TTML with ttconv (mind the finding on it), or add up the times yourself; compare the number of captions with
# that of <p> in the file.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check pycaption==2.3.14 ttconv==1.2.3 srt==3.5.3
cd "$work"
venv/bin/python - <<'PY'
import importlib.metadata, io, logging
import xml.etree.ElementTree as ElementTree

import pycaption, srt, ttconv.imsc.reader, ttconv.srt.writer

logging.disable(logging.WARNING)
print("pycaption", importlib.metadata.version("pycaption"), "ttconv", importlib.metadata.version("ttconv"))


def captions(name, body):
    """Start, end and text in seconds by pycaption, and by ttconv."""
    text = f'<tt xmlns="http://www.w3.org/ns/ttml" xml:lang="en"><body>{body}</body></tt>'
    read = pycaption.DFXPReader().read(text)
    found = [(caption.start / 1e6, caption.end / 1e6, caption.get_text())
             for language in read.get_languages() for caption in read.get_captions(language)]
    model = ttconv.imsc.reader.to_model(ElementTree.parse(io.StringIO(text)))
    cues = srt.parse(ttconv.srt.writer.from_model(model))
    other = [(cue.start.total_seconds(), cue.end.total_seconds(), cue.content) for cue in cues]
    print(f"{name}: pycaption {found}, ttconv {other}")
    return found, other


one, two, three = (f'<p begin="{start}s" end="{start + 1}s">{word}</p>' for start, word in ((1, "one"), (3, "two"), (5, "three")))
all_three = [(1, 2, "one"), (3, 4, "two"), (5, 6, "three")]
assert captions("one div", f"<div>{one}{two}{three}</div>") == (all_three, all_three)
found, other = captions("three divs", f"<div>{one}</div><div>{two}</div><div>{three}</div>")
assert other == all_three and found == all_three[-1:], "all divs are read now"
found, other = captions("a chapter that begins at 60 s", f'<div begin="60s" end="90s">{one}</div>')
assert other == [(61, 62, "one")] and found == [(1, 2, "one")], "the time of a div counts now"
words = '<p begin="10s" end="20s"><span begin="1s" end="2s">a</span><span begin="3s" end="4s">b</span></p>'
found, other = captions("words with times", f"<div>{words}</div>")
assert other == [(11, 12, "a"), (13, 14, "b")] and found == [(10, 20, "ab")], "the times of spans count now"
PY
