"""Checkpoints of a member, with checksums and a check that they belong to the run.

`step_<n>.safetensors` holds the tensors, `step_<n>.json` the plain values, the recipe and the
checksums. The JSON file is written last; without it there is no checkpoint. Nothing in the files
is executed when they are read.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mujoco_sail.results.read import name_teacher
from mujoco_sail.results.versions import differ
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import remove_leftovers, write_bytes

KEPT = 2  # checkpoints: the newest, and one before in case it is damaged


class DamagedError(Exception):
    """Error when a checkpoint is damaged; the message names the file and the reason."""


@dataclass(frozen=True)
class MemberState:
    """State of one member after a step.

    Attributes:
        step: Environment steps taken.
        tensors: The member's slices of the stack's tensors, by name.
        plain: Plain values that all members of the stack share.
        files: Plain values of this member: the rows of its files.
    """

    step: int
    tensors: Mapping[str, Tensor]
    plain: Mapping[str, Any]
    files: Mapping[str, Any]


class Checkpoints:
    """Checkpoints of one run.

    Args:
        folder: Folder `checkpoints` of the run.
        about: Resolved recipes, seed and versions, which must equal those of a checkpoint to
            resume from it.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder = folder
        # Converted as JSON does, so that it can be compared with what is read.
        self.about = json.loads(_text(about))

    def remove_leftovers(self) -> None:
        """Removes files of killed writers: temporary ones, and tensors without their document."""
        remove_leftovers(self.folder)
        steps = self.steps()
        for path in self.folder.glob("step_*.safetensors"):
            if path not in map(self._tensors, steps):
                path.unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """Steps of all checkpoints, newest first; some may be damaged."""
        names = [path.stem.removeprefix("step_") for path in self.folder.glob("step_*.json")]
        return sorted((int(name) for name in names if name.isdigit()), reverse=True)

    def write(self, saved: MemberState) -> None:
        """Writes a checkpoint, verifies it, and removes the oldest.

        Raises:
            WriteError: It cannot be written; earlier checkpoints are kept.
            DamagedError: What was read back differs; earlier checkpoints are kept.
        """
        tensors = save({name: t.contiguous() for name, t in saved.tensors.items()})
        document = {
            "step": saved.step,
            "about": self.about,
            "plain": saved.plain,
            "files": saved.files,
            "tensors": _digest(tensors),
        }
        document["document"] = _digest(_text(document).encode())
        write_bytes(self._tensors(saved.step), tensors)
        write_bytes(self._document(saved.step), _text(document).encode())
        self._parts(saved.step)
        # Checkpoints of later steps are damaged: the run resumed from an earlier one.
        steps = self.steps()
        later = [step for step in steps if step > saved.step]
        earlier = [step for step in steps if step < saved.step]
        for step in later + earlier[KEPT - 1 :]:
            self._remove(step)

    def read(self, step: int) -> MemberState:
        """Reads a checkpoint.

        Raises:
            DamagedError: A file is missing or damaged.
            UserError: It belongs to another run; the message names the first difference.
        """
        document, tensors = self._parts(step)
        name_teacher(document["about"])
        if (difference := first_difference(document["about"], self.about)) is not None:
            raise UserError(f"{self._document(step)} belongs to another run: {difference}")
        try:
            parts = load(tensors)
        except SafetensorError as error:
            raise DamagedError(f"{self._tensors(step)}: {error}") from error
        return MemberState(step, parts, document["plain"], document["files"])

    def _parts(self, step: int) -> tuple[dict[str, Any], bytes]:
        """Content of the JSON file and bytes of the tensors' file, both verified."""
        path = self._document(step)
        try:
            document = json.loads(path.read_bytes())
            found = document.pop("document")
        except OSError as error:
            raise DamagedError(f"{path}: {error.strerror}") from error
        except (ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
            raise DamagedError(f"{path}: not the JSON that was written") from error
        if found != _digest(_text(document).encode()) or document.get("step") != step:
            raise DamagedError(f"{path}: its checksum differs")
        if document.keys() != {"step", "about", "plain", "files", "tensors"}:
            raise DamagedError(f"{path}: not a checkpoint of this version")
        path = self._tensors(step)
        try:
            tensors = path.read_bytes()
        except OSError as error:
            raise DamagedError(f"{path}: {error.strerror}") from error
        if document["tensors"] != _digest(tensors):
            raise DamagedError(f"{path}: its checksum differs")
        return document, tensors

    def _remove(self, step: int) -> None:
        self._document(step).unlink(missing_ok=True)
        self._tensors(step).unlink(missing_ok=True)

    def _document(self, step: int) -> Path:
        return self.folder / f"step_{step}.json"

    def _tensors(self, step: int) -> Path:
        return self.folder / f"step_{step}.safetensors"


def first_difference(
    found: Mapping[str, Any], wanted: Mapping[str, Any], without: Collection[str] = ()
) -> str | None:
    """First key in which two nested tables differ, with both values; None if they are equal.

    Dotted keys in `without` are not compared.
    """
    there, here = (dict(_flat(table)) for table in (found, wanted))
    for key in {**here, **there}:
        if key not in without and differ(key, there, here):
            old, new = (table.get(key, "(absent)") for table in (there, here))
            return f"{key} is {old!r} there and {new!r} here"
    return None


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        pairs += _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return pairs


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
