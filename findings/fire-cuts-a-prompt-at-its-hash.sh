#!/usr/bin/env bash
# fire 0.7.1, with which many samplers of models make their command line. --prompt="..." should hand over what stands between the quotes.
# Each value is parsed as Python where it can be, and words count as strings. So "robot #2" is "robot", as the rest is a comment, and
# "cat #1, then dog" is "cat"; "cat, dog" is a tuple of two words; "None" is None, "3" a number and "1_000" is 1000.
# "dog" and "a robot #2" come through whole: whether a prompt is cut depends on whether what stands before the # is one word or
# happens to be Python. There is no warning, and a model makes a video of the shorter prompt.
# Do instead: quote twice, --prompt='"robot #2"', or decorate the function with fire.decorators.SetParseFn(str, "prompt").
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check fire==0.7.1
cd "$work"
cat > sample.py <<'EOF'
import fire


def plain(prompt):
    return f"{type(prompt).__name__} {prompt!r}"


@fire.decorators.SetParseFn(str, "prompt")
def told(prompt):
    return f"{type(prompt).__name__} {prompt!r}"


if __name__ == "__main__":
    fire.Fire({"plain": plain, "told": told})
EOF
venv/bin/python - <<'EOF'
import importlib.metadata
import subprocess

print("fire", importlib.metadata.version("fire"))


def given(how, prompt):
    command = ["venv/bin/python", "sample.py", how, f"--prompt={prompt}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


expected = {
    "robot #2": "str 'robot'",
    "cat #1, then dog": "str 'cat'",
    "cat, dog": "tuple ('cat', 'dog')",
    "1_000": "int 1000",
    "a robot #2": "str 'a robot #2'",
    "dog": "str 'dog'",
}
for prompt, what in expected.items():
    plain, told = given("plain", prompt), given("told", prompt)
    print(f"{prompt!r} becomes {plain}, with SetParseFn(str) {told}")
    assert plain == what, "prompts are parsed otherwise now"
    assert told == f"str {prompt!r}"
assert given("plain", '"robot #2"') == "str 'robot #2'"
EOF
