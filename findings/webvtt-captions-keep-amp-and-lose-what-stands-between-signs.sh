#!/usr/bin/env bash
# webvtt-py 0.6.0. The text of a caption should be what a viewer reads: in WebVTT "&" and "<" are written &amp; and &lt;, and <i>
# is markup. Of a valid file the property text drops the tags but leaves the entities: "R&amp;D" and "3 &lt; 5" go into captions
# and tokens as they are. The other way text is not escaped: a Caption made of "R&D, a < b" is written as it is, which is not
# valid, and a player may cut it. SubRip has no entities, and from_srt takes everything from a "<" to the next ">" for a tag: "if
# a < b and c > d" becomes "if a  d". So captions of lectures, programs and formulas lose words, and all others carry HTML into a
# text encoder. Do instead: html.unescape(caption.text) for WebVTT, html.escape(text, quote=False) before writing, and read SubRip
# with the package srt.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check webvtt-py==0.6.0 srt==3.5.3
cd "$work"
venv/bin/python - <<'EOF'
import html, importlib.metadata, pathlib

import srt, webvtt

print("webvtt-py", importlib.metadata.version("webvtt-py"))
pathlib.Path("a.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\n<i>R&amp;D</i>: 3 &lt; 5\n")
text = webvtt.read("a.vtt")[0].text
print("WebVTT:", repr(text), "- unescaped:", repr(html.unescape(text)))
assert text == "R&amp;D: 3 &lt; 5", "entities are read otherwise now"
made = webvtt.WebVTT()
made.captions.append(webvtt.Caption("00:00:01.000", "00:00:02.000", "R&D, a < b"))
print("written:", repr(made.content))
assert "\nR&D, a < b\n" in made.content, "text is escaped when it is written"
pathlib.Path("a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nif a < b and c > d\n")
text = webvtt.from_srt("a.srt")[0].text
print("SubRip:", repr(text), "- by srt:", repr(next(srt.parse(pathlib.Path("a.srt").read_text())).content))
assert text == "if a  d", "signs in SubRip are read otherwise now"
EOF
