"""What an ablation with endpoints declares before it begins, and that it is not changed afterwards."""

from typing import Any

from pydantic import BaseModel

from cdcd_video.ablate.plan import Plan
from cdcd_video.config import strict_yaml
from cdcd_video.config.config_difference import describe_differences, unequal_values
from cdcd_video.config.fingerprint import text_digest
from cdcd_video.engine.runtime import replace_file
from cdcd_video.errors import UserError
from cdcd_video.storage.small_file import MIB, read_small_text

FILE = "declared.yaml"
_MOST_NAMED = 3


def text_of(plan: Plan) -> str:
    """The ablation, the config of each arm with the first seed, and the protocols, as YAML.

    Values that are their defaults are left out, so that an option of a later version changes nothing. So is where the results
    lie.
    """
    first = [*list(plan.bases.values())[:1], *(plan.of(arm)[0] for arm in plan.arms)]
    content = {
        "ablation": _plain(plan.ablation),
        "cells": {
            cell.arm.name: _plain(cell.config, leave_out={"init", "name"} if plan.bases else {"name"}) for cell in first
        },
        "protocols": {name: _plain(protocol) for name, protocol in plan.protocols.items()},
    }
    return strict_yaml.write(content)


def digest_of(plan: Plan) -> str:
    """SHA-256 (hex) of `text_of`."""
    return text_digest(text_of(plan))


def check(plan: Plan) -> None:
    """Refuses an ablation with endpoints that is not the one that was begun in its folder.

    Raises:
      UserError: it was changed since, or cells were trained there before endpoints were declared.
    """
    if not plan.ablation.endpoints:
        return
    file, text = plan.out / FILE, text_of(plan)
    if not file.is_file():
        begun = [cell.folder for cell in (*plan.bases.values(), *plan.cells) if (cell.folder / "config.yaml").is_file()]
        if begun:
            raise UserError(
                f"{begun[0]} was trained before the endpoints were declared, so that they could have been chosen by its results;"
                " choose another --out"
            )
        return
    declared = read_small_text(file, limit=64 * MIB)
    if declared == text:
        return
    there, here = strict_yaml.parse(declared, str(file)), strict_yaml.parse(text, str(plan.file))
    differences = unequal_values(there, here) if isinstance(there, dict) else {}
    few = dict(list(differences.items())[:_MOST_NAMED])
    more = f"; and {len(differences) - len(few)} more" if len(differences) > len(few) else ""
    raise UserError(
        f"{plan.file} was changed after the ablation in {plan.out} began ({describe_differences(few)}{more}); give it as it was"
        f" declared, or choose another --out"
    )


def begin(plan: Plan) -> None:
    """Writes the declaration, unless it is there; see `check`. The folder must be locked."""
    check(plan)
    file = plan.out / FILE
    if plan.ablation.endpoints and not file.is_file():
        plan.out.mkdir(parents=True, exist_ok=True)
        replace_file(file, text_of(plan))


def _plain(section: BaseModel, leave_out: set[str] | None = None) -> dict[str, Any]:
    return section.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=leave_out)
