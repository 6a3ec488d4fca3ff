#!/usr/bin/env bash
# OmegaConf 2.3.1 and hydra-core 1.3.8. aspect_ratio=16:9 on Hydra's command line is the text "16:9", and the same line in the file
# that it overrides should be as well. There 16:9 is 969, a number of base 60, as are 9:16 (556), 4:3 (243) and 1:1 (61), and 1:30 of a
# start time is 90; OmegaConf.from_dotlist reads as a file does. 2.39:1, 0:30 and 00:01:30 stay text, and 0:30.5 is 30.5:
# one list of ratios or times holds numbers and texts. OmegaConf already mends 1e-3, which plain YAML 1.1 takes for a text.
# A look-up by ratio fails, or int(a) / int(b) of a split never runs, only where the value comes out of the file.
# Do instead: write "16:9" in quotes, and declare the field as str in a structured config, which then complains or keeps "969".
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check hydra-core==1.3.8 omegaconf==2.3.1 pyyaml==6.0.4
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

print(*(f"{name} {importlib.metadata.version(name)}" for name in ("omegaconf", "hydra-core")))


def read(written):
    """The value of a line in a file, and of the same as an override."""
    Path("config.yaml").write_text(f"aspect: {written}\n")
    with initialize_config_dir(str(Path.cwd()), version_base="1.3"):
        return compose("config").aspect, compose("config", [f"aspect={written}"]).aspect


expected = {"16:9": 969, "9:16": 556, "1:1": 61, "1:30": 90, "0:30.5": 30.5, "2.39:1": "2.39:1", "0:30": "0:30", "00:01:30": "00:01:30"}
for written, what in expected.items():
    file, line = read(written)
    print(f"{written}: {file!r} in the file, {line!r} on the command line")
    assert file == what and type(file) is type(what), "files are read otherwise now"
    assert line == written
    assert OmegaConf.from_dotlist([f"aspect={written}"]).aspect == what
assert read("'16:9'")[0] == "16:9"


@dataclass
class Sample:
    aspect: str = "1:1"


typed = OmegaConf.merge(OmegaConf.structured(Sample), OmegaConf.create("aspect: 16:9")).aspect
print("16:9 for a field of type str:", repr(typed))
assert typed == "969"
EOF
