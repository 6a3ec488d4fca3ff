#!/usr/bin/env bash
# transformers 5.1.0. CLIPModel(..., output_hidden_states=True), or the same of its parts vision_model and
# text_model, should return the hidden states of all layers, as 4.x did and 5.2.0 does.
# The argument is accepted, and hidden_states is None, with no warning: in 5.1 the wrapper that collects
# them sits on CLIPVisionModel and its like, not on the parts that CLIPModel is made of.
# Who conditions on the last layer but one (many image-to-video models do) gets a
# TypeError far from its cause. Do instead: require transformers>=5.2 or <5, or use CLIPVisionModel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 transformers==5.1.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import torch, transformers
from transformers import CLIPConfig, CLIPModel, CLIPVisionModel

print("transformers", transformers.__version__, "torch", torch.__version__)
size = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
vision = dict(image_size=32, patch_size=16, **size)
model = CLIPModel(CLIPConfig(text_config=dict(vocab_size=64, **size), vision_config=vision, projection_dim=8)).eval()
pixels, tokens = torch.zeros(1, 3, 32, 32), torch.tensor([[1, 2, 3]])
alone = CLIPVisionModel(model.config.vision_config).eval()
with torch.no_grad():
    states = {
        "CLIPModel, vision": model(tokens, pixels, output_hidden_states=True).vision_model_output.hidden_states,
        "CLIPModel.vision_model": model.vision_model(pixels, output_hidden_states=True).hidden_states,
        "CLIPModel.text_model": model.text_model(tokens, output_hidden_states=True).hidden_states,
        "CLIPVisionModel": alone(pixels, output_hidden_states=True).hidden_states,
    }
for name, found in states.items():
    print(f"{name}: {'None' if found is None else f'{len(found)} hidden states'}")
assert len(states.pop("CLIPVisionModel") or ()) == 3, "CLIPVisionModel gives other hidden states."
assert all(found is None for found in states.values()), "A part now gives its hidden states."
EOF
