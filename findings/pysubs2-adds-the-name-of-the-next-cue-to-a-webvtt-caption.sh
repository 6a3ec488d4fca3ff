#!/usr/bin/env bash
# pysubs2 1.8.1. A cue of WebVTT may have an identifier in the line before its times, and comments (NOTE) may stand between cues;
# neither is shown to anybody. The text of an event should be the text of its cue, as webvtt-py 0.6.0 reads it.
# pysubs2 takes everything up to the next line with times for the text of a cue, and cuts off what looks like the number of a SubRip
# caption at its end. So "a cat runs" becomes "a cat runs", a blank line and "scene two", the identifier of the cue behind it, and
# comments are spoken too. Where cues have no identifier the cut hits the caption: "scored" and "42" in two lines is "scored" alone.
# The last caption of a SubRip file is cut in the same way. Only the names before the first cue are left out, as they should be, and
# numbered cues are right, so that a first look at a file tells nothing.
# Captions made of such files contain words of other scenes, identifiers of a recorder, and remarks of translators.
# Do instead: read WebVTT with webvtt-py, and SubRip with the package srt.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pysubs2==1.8.1 webvtt-py==0.6.0 srt==3.5.3
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata, pathlib

import pysubs2, srt, webvtt

print("pysubs2", importlib.metadata.version("pysubs2"))


def texts(*blocks):
    """The captions of a WebVTT file made of these blocks: by webvtt-py and by pysubs2."""
    text = "\n\n".join(("WEBVTT",) + blocks) + "\n"
    pathlib.Path("a.vtt").write_text(text)
    by_webvtt, by_pysubs2 = [cue.text for cue in webvtt.read("a.vtt")], [event.plaintext for event in pysubs2.load("a.vtt")]
    print("webvtt-py:", by_webvtt, "- pysubs2:", by_pysubs2)
    return by_webvtt, by_pysubs2


first, second = "00:01.000 --> 00:02.000\na cat runs", "00:03.000 --> 00:04.000\nit jumps"
plain = ["a cat runs", "it jumps"]
assert texts(first, second) == texts("1\n" + first, "2\n" + second) == (plain, plain)
named = texts("scene one\n" + first, "scene two\n" + second)
assert named == (plain, ["a cat runs\n\nscene two", "it jumps"]), "identifiers are left out now"
noted = texts("NOTE by hand", first, "NOTE or a dog?", second)
assert noted == (plain, ["a cat runs\n\nNOTE or a dog?", "it jumps"]), "comments are left out now"
counted = texts("00:01.000 --> 00:02.000\nscored\n42", second)
assert counted == (["scored\n42", "it jumps"], ["scored", "it jumps"]), "a number at the end of a caption is kept now"
text = "1\n00:00:01,000 --> 00:00:02,000\nscored\n42\n\n2\n00:00:03,000 --> 00:00:04,000\nscored\n43\n"
by_srt, by_pysubs2 = [cue.content for cue in srt.parse(text)], [event.plaintext for event in pysubs2.SSAFile.from_string(text)]
print("SubRip, srt:", by_srt, "- pysubs2:", by_pysubs2)
assert by_srt == ["scored\n42", "scored\n43"] and by_pysubs2 == ["scored\n42", "scored"]
EOF
