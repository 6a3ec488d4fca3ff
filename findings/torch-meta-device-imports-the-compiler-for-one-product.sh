#!/usr/bin/env bash
# torch 2.14.1. The device "meta" holds shapes without numbers: the cheap way to ask how large a model is before there is memory
# for it (accelerate and transformers build models so).
# Modules whose first values are uniform or constant (Linear, Conv2d, LayerNorm) are built there at once. The first elementwise
# operation, as small as `torch.empty(3, device="meta") * 0.5`, and the first `normal_`, as in every nn.Embedding, import
# torch._dynamo and sympy: about 900 modules, more processor time than `import torch` itself. `randn` imports half of them.
# A command that looks at a model on "meta" only to check a file starts half as fast for it. Do instead: read shapes from the
# headers of safetensors; or give embeddings their table (`nn.Embedding.from_pretrained(torch.empty(...))`), and work out
# constants on the CPU, so that nothing is computed on "meta".
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$work/one.py" <<'EOF'
import sys, time
import torch

before, modules, start = time.process_time(), len(sys.modules), "torch._dynamo" in sys.modules
assert not start, "import torch brings its compiler"
with torch.device("meta"):
    exec(sys.argv[1])
print(
    f"{sys.argv[1]:45} import torch {before:.1f} s, this {time.process_time() - before:.1f} s,"
    f" {len(sys.modules) - modules} modules more, the compiler {'imported' if 'torch._dynamo' in sys.modules else 'not imported'}"
)
EOF
cd "$work"
export OMP_NUM_THREADS=1
for code in "torch.nn.Linear(4, 4)" "torch.nn.LayerNorm(4)" "torch.randn(3, 4)"; do
  venv/bin/python one.py "$code" | tee said
  grep -q "not imported" said || { echo "the compiler is imported for this too"; exit 1; }
done
for code in "torch.empty(3) * 0.5" "torch.nn.Embedding(3, 4)"; do
  venv/bin/python one.py "$code" | tee said
  grep -q "compiler imported" said || { echo "the compiler is not imported any more"; exit 1; }
done
