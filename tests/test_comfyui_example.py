"""The example for ComfyUI, checked against the nodes and run as ComfyUI runs it; and what its window shows of the nodes."""

import json
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from comfyui_host import FOLDER, START, as_image, installed, load_pack


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    installed(monkeypatch)
    return load_pack()


def core_nodes() -> dict[str, Any]:
    """ComfyUI's own nodes of the example, with their interfaces; what they do is not needed."""
    image, mask = as_image(START), torch.zeros(1, 64, 64)
    scaled, saved = ("IMAGE", {}), ("FLOAT", {"min": 0.01, "max": 1000.0})
    return {
        "LoadImage": SimpleNamespace(
            inputs={"image": (["red-circle.png"], {})}, RETURN_TYPES=("IMAGE", "MASK"), run=lambda **_: ((image, mask))
        ),
        "ImageScaleBy": SimpleNamespace(
            inputs={
                "image": scaled,
                "upscale_method": (["nearest-exact", "bilinear", "area", "bicubic", "lanczos"], {}),
                "scale_by": ("FLOAT", {"min": 0.01, "max": 8.0}),
            },
            RETURN_TYPES=("IMAGE",),
            run=lambda image, scale_by, **_: (image.repeat_interleave(4, 1).repeat_interleave(4, 2),),
        ),
        "SaveAnimatedWEBP": SimpleNamespace(
            inputs={
                "images": ("IMAGE", {}),
                "filename_prefix": ("STRING", {}),
                "fps": saved,
                "lossless": ("BOOLEAN", {}),
                "quality": ("INT", {"min": 0, "max": 100}),
                "method": (["default", "fastest", "slowest"], {}),
            },
            RETURN_TYPES=(),
            run=lambda images, fps, **_: (images, fps),
        ),
    }


KINDS = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}


def check_inputs(inputs: dict[str, Any], interface: dict[str, Any], outputs_of: dict[str, tuple[str, ...]]) -> None:
    """As ComfyUI checks a node before anything runs: links by type, widgets by type, range and list."""
    assert set(inputs) <= set(interface)
    for name, value in inputs.items():
        kind, limits = [*interface[name], {}][:2]
        if isinstance(value, list):
            assert outputs_of[value[0]][value[1]] == kind, name
        elif isinstance(kind, list):
            assert value in kind, name
        else:
            assert isinstance(value, KINDS[kind]), name
            if kind in ("INT", "FLOAT"):
                assert limits["min"] <= value <= limits["max"], name


def test_the_example_fits_the_nodes_and_runs(pack: ModuleType):
    workflow, core = json.loads((FOLDER / "workflow_api.json").read_text()), core_nodes()
    outputs_of = {
        number: (pack.NODE_CLASS_MAPPINGS.get(node["class_type"]) or core[node["class_type"]]).RETURN_TYPES
        for number, node in workflow.items()
    }
    results: dict[str, Any] = {}
    for number, node in workflow.items():  # it lists each node after those that it needs
        ours, inputs = pack.NODE_CLASS_MAPPINGS.get(node["class_type"]), node["inputs"]
        if ours is None:
            interface = required = core[node["class_type"]].inputs
        else:
            types = ours.INPUT_TYPES()
            required, interface = types["required"], types["required"] | types.get("optional", {})
        assert set(required) <= set(inputs)
        check_inputs(inputs, interface, outputs_of)
        given = {
            name: results[value[0]][value[1]] if isinstance(value, list) else value for name, value in inputs.items()
        }
        if ours is None:
            results[number] = core[node["class_type"]].run(**given)
        else:
            results[number] = getattr(ours(), ours.FUNCTION)(**given)
            assert len(results[number]) == len(ours.RETURN_TYPES)
            if getattr(ours, "OUTPUT_IS_LIST", (False,))[0]:  # nodes after it run once for each
                assert len(results[number][0]) == 1
                results[number] = (results[number][0][0], *results[number][1:])
    images, fps = results["5"]
    assert images.shape == (16, 256, 256, 3) and fps == 8
    assert not torch.equal(images[0], images[-1])


def test_widgets_are_of_kinds_that_comfyui_knows(pack: ModuleType):
    for node in pack.NODE_CLASS_MAPPINGS.values():
        types = node.INPUT_TYPES()
        for name, (kind, *more) in (types["required"] | types.get("optional", {})).items():
            assert isinstance(kind, list) or kind in {"IMAGE", "MASK", pack.MODEL, *KINDS}, name
            limits = more[0] if more else {}
            if kind in ("INT", "FLOAT"):
                assert limits["min"] <= limits["default"] <= limits["max"], name
            if kind == "FLOAT":  # its window rounds what is typed to the first digit of the step: 29.97 must stay
                assert limits["step"] == 0.01, name
        assert callable(getattr(node, node.FUNCTION)) and node.CATEGORY
    assert set(pack.NODE_DISPLAY_NAME_MAPPINGS) == set(pack.NODE_CLASS_MAPPINGS)


def test_every_widget_is_described():
    page = (FOLDER / "README.md").read_text()
    (text,) = [
        node["inputs"]
        for node in json.loads((FOLDER / "workflow_api.json").read_text()).values()
        if "text" in node["inputs"]
    ]
    assert all(f"`{name}`" in page for name in text if name != "model" and name != "num_frames")
