#!/usr/bin/env bash
# onnxconverter-common 1.16.0. convert_float_to_float16 should turn the weights of a model into the nearest numbers of float16,
# as astype does, which holds all up to 65504. By default it cuts off everything beyond 10000 first, and lifts everything between 0 and
# 0.0000001 up to it, with the sign, where float16 would round what is less than 0.00000003 to 0.
# A constant of 20000 in the graph, such as a mask of -20000 or a factor for time steps, is 10000 afterwards, and the product of an
# input with it is half of what it was, though float16 could hold it. A Python warning for each tensor says "truncated to 10000.0"; onnx's
# checker is content. In a small model it is seen; in the long list of warnings about tiny weights of a real model it is not.
# Do instead: pass max_finite_val=65504 and min_positive_val=6e-8, and compare the outputs of both models.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check onnxconverter-common==1.16.0 onnx==1.23.2 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata
import warnings

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxconverter_common.float16 import convert_float_to_float16

print("onnxconverter-common", importlib.metadata.version("onnxconverter-common"), "onnx", onnx.__version__)
weights = np.array([1, 9000, 20000, 60000, -20000, 1e-9, -1e-9, 0], np.float32)
shape = [len(weights)]
graph = helper.make_graph(
    [helper.make_node("Mul", ["input", "weights"], ["output"])],
    "product",
    [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, shape)],
    [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, shape)],
    [numpy_helper.from_array(weights, "weights")],
)
model = helper.make_model(graph)
onnx.checker.check_model(model)


def converted(**options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        half = convert_float_to_float16(model, **options)
    onnx.checker.check_model(half)
    output = ReferenceEvaluator(half).run(None, {"input": np.ones(shape, np.float16)})[0]
    assert output.dtype == np.float16
    return output, [str(warning.message) for warning in caught]


nearest = weights.astype(np.float16)
found, said = converted()
wide, _ = converted(max_finite_val=65504.0, min_positive_val=6e-8)
print("weights:         ", weights.tolist())
print("nearest float16: ", nearest.tolist())
print("converted:       ", [float(f"{value:.3g}") for value in found])
print("with the options:", [float(f"{value:.3g}") for value in wide])
print("warnings:", said)
assert found[:5].tolist() == [1, 9000, 10000, 10000, -10000], "weights beyond 10000 are kept now"
assert found[5] > 0 > found[6] and found[7] == 0 and nearest[5] == nearest[6] == 0
assert np.array_equal(wide[:5], nearest[:5]) and np.isfinite(nearest).all()
EOF
