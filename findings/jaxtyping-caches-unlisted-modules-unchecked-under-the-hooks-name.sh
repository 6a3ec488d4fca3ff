#!/usr/bin/env bash
# jaxtyping 0.3.11. Its import hook keeps bytecode under a name made of the checker, so that a run with another list of
# packages should compile what that list adds anew, with checks.
# The name does not tell the list. While a listed package is imported, modules outside the list that it imports are
# compiled by the hook's loader without checks and cached under the same name. When they are listed later, that cache is
# read: they are never checked, and nothing is said. Without __pycache__ they are.
# Whoever puts a code base under shape checks package by package meets it: a test suite that passes with the new list may
# not have checked the new package at all. Do instead: delete __pycache__ whenever the list grows, or change the name
# of the checker; and hold by a test that a deliberately wrong call into each package raises.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check jaxtyping==0.3.11 beartype==0.22.9
mkdir "$work/outer" "$work/inner"
echo "import inner" > "$work/outer/__init__.py"
printf 'def double(x: int) -> int:\n    return x * 2\n' > "$work/inner/__init__.py"
cat > "$work/call.py" <<'EOF'
import importlib.metadata as metadata
import sys

from jaxtyping import install_import_hook

packages = sys.argv[1].split(",")
with install_import_hook(packages, "beartype.beartype"):
    import outer
    import inner
try:
    outcome = f"returned {inner.double('no')!r}"
except Exception as error:
    outcome = f"raised {type(error).__name__}"
print("jaxtyping", metadata.version("jaxtyping"), "with", packages, outcome)
EOF
cd "$work"
unset PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX
run() { rm -f said; venv/bin/python call.py "$1" | tee said; }
run outer
grep -q "returned 'nono'" said || { echo "a package that is not listed is checked"; exit 1; }
run outer,inner
grep -q "returned 'nono'" said || { echo "the package that was added is checked now: the surprise is gone"; exit 1; }
find . -path ./venv -prune -o -name __pycache__ -print | xargs rm -rf
run outer,inner
grep -q "raised TypeCheckError" said || { echo "with no cache, the added package is not checked"; exit 1; }
