"""Trained policies, stored as a pair of files that cannot contain code.

`<name>.safetensors` has the layers, under the names of
`torch.nn.Sequential(Linear, activation, Linear, ...)`; `<name>.toml` describes them. The first line
of the TOML file is a digest of both files, by which a damaged or mixed pair is detected.
"""

import codecs
import hashlib
import itertools
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import tomli_w
from numpy.typing import ArrayLike, NDArray
from safetensors import numpy as tensors

from mujoco_sail.recipes.settings import build, dump, setting
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import holds_nothing, read_text, write_bytes

Array = NDArray[np.float32]
Activation = Literal["relu", "tanh"]
Squash = Literal["tanh", "clip"]

# Largest file that is read, in bytes: about twenty times the largest policy of any recipe.
LARGEST = {".toml": 2**16, ".safetensors": 2**27}

_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "clip": lambda x: np.clip(x, -1, 1),
}


@dataclass(frozen=True, kw_only=True)
class About:
    """Provenance of a policy."""

    env: str = setting()  # environment recipe
    id: str = setting()  # Gymnasium id
    protocol: str = setting()
    agent: str = setting()  # agent recipe
    seed: int = setting(low=0)
    step: int = setting(low=0)  # environment steps of training


@dataclass(frozen=True, kw_only=True)
class Header:
    """Content of the TOML file after its first line."""

    format: Literal["mujoco_sail policy 1"] = setting()
    observation_size: int = setting(low=1, high=2**31)
    action_size: int = setting(low=1, high=2**31)
    activation: Activation = setting()  # noqa: RUF009 (a field)
    squash: Squash = setting()  # noqa: RUF009 (a field)
    about: About


@dataclass(frozen=True, eq=False)
class Policy:
    """Deterministic policy of one member, a multilayer perceptron.

    Attributes:
        weights: Weights of every layer, [out, in].
        biases: Biases of every layer, [out].
        activation: Activation after every layer but the last.
        squash: Function after the last layer, which keeps actions in [-1, 1].
        about: Provenance of the policy.
    """

    weights: Sequence[Array]
    biases: Sequence[Array]
    activation: Activation
    squash: Squash
    about: About

    def __post_init__(self) -> None:
        """Checks the dtype and the sizes of the layers.

        Raises:
            UserError: The layers are not float32, or their sizes do not match.
        """
        arrays = [*self.weights, *self.biases]
        widths = [bias.shape for bias in self.biases]
        if (
            not arrays
            or any(array.dtype != np.float32 or array.size == 0 for array in arrays)
            or any(weight.ndim != 2 for weight in self.weights)
            or [weight.shape[:1] for weight in self.weights] != widths
            or any(a.shape[0] != b.shape[1] for a, b in itertools.pairwise(self.weights))
        ):
            raise UserError("its layers are not float32, or do not fit one another")

    @property
    def observation_size(self) -> int:
        """O, size of an observation."""
        return int(self.weights[0].shape[1])

    @property
    def action_size(self) -> int:
        """A, size of an action."""
        return int(self.weights[-1].shape[0])

    def act(self, observation: ArrayLike) -> Array:
        """Computes deterministic actions.

        Args:
            observation: Flat observations as in `mujoco_sail.environments.make`, [O] or [..., O].

        Returns:
            Actions in [-1, 1], [A] or [..., A], float32.

        Raises:
            UserError: The observation has another size.
        """
        x = np.asarray(observation, np.float32)
        if x.shape[-1:] != (self.observation_size,):
            raise UserError(
                f"this policy takes observations of size {self.observation_size}, "
                f"got an array of shape {x.shape}"
            )
        *hidden, (weight, bias) = zip(self.weights, self.biases, strict=True)
        for w, b in hidden:
            x = _FUNCTIONS[self.activation](x @ w.T + b)
        return _FUNCTIONS[self.squash](x @ weight.T + bias)

    def save(self, path: Path | str) -> list[Path]:
        """Writes the pair of files; equal policies give equal bytes.

        Args:
            path: Name of the pair, with or without one of its suffixes.

        Raises:
            OSError: The files cannot be written.
        """
        header = Header(
            format="mujoco_sail policy 1",
            observation_size=self.observation_size,
            action_size=self.action_size,
            activation=self.activation,
            squash=self.squash,
            about=self.about,
        )
        named: dict[str, Array] = {}
        layers = zip(_names(len(self.weights)), self.weights, self.biases, strict=True)
        for names, weight, bias in layers:
            named |= zip(names, map(np.ascontiguousarray, (weight, bias)), strict=True)
        data = tensors.save(named)
        text = tomli_w.dumps(dump(header)).encode()
        header_path, weights = _pair(path)
        write_bytes(weights, data)
        write_bytes(header_path, _seal(text, data) + b"\n" + text)
        return [weights, header_path]


def load(path: Path | str) -> Policy:
    """Loads a policy from its pair of files; safe for untrusted files, which are not executed.

    Args:
        path: Name of the pair, with or without one of its suffixes.

    Raises:
        UserError: A file is missing, damaged or of another format, or the files are not a pair.
    """
    header_path, weights = _pair(path)
    # As it was written, though an editor or a copy may have ended its lines otherwise.
    written = _read(header_path).removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    seal, _, text = written.partition(b"\n")
    data = _read(weights)
    if not seal.startswith(b"sha256 = "):
        raise UserError(f"{header_path}: not a policy file: its first line has no sha256")
    if seal != _seal(text, data):
        raise UserError(f"{header_path} and {weights.name}: damaged, or not of the same policy")
    try:
        header = build(Header, tomllib.loads(text.decode()), str(header_path))
    except UserError:
        raise
    except (ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{header_path}: not valid TOML: {error}") from error
    try:
        found = tensors.load(data)
    except (safetensors.SafetensorError, KeyError) as error:
        raise UserError(f"{weights}: not safetensors of float32: {error}") from error
    names = _names(len(found) // 2)
    if found.keys() != {name for pair in names for name in pair}:
        raise UserError(f"{weights}: expected the layers 0.weight, 0.bias, 2.weight, ...")
    try:
        policy = Policy(
            [found[name] for name, _ in names],
            [found[name] for _, name in names],
            header.activation,
            header.squash,
            header.about,
        )
    except UserError as error:
        raise UserError(f"{weights}: {error}") from error
    sizes = policy.observation_size, policy.action_size
    if sizes != (header.observation_size, header.action_size):
        raise UserError(
            f"{header_path}: sizes {header.observation_size} and {header.action_size}; "
            f"the layers have {sizes[0]} and {sizes[1]}"
        )
    if not all(np.isfinite(array).all() for array in found.values()):
        raise UserError(f"{weights}: holds numbers that are not finite: the training diverged")
    return policy


def export(folder: Path, out: Path | None) -> list[Path]:
    """Copies the policy of a complete run.

    Args:
        folder: Folder of the run, `<results>/<env>/<agent>/seed_<n>`.
        out: Name of the new pair; `<env>_<agent>_seed_<n>` in the working folder by default.

    Raises:
        UserError: There is no complete run with a valid policy, or `out` cannot be written.
    """
    recorded = folder / "run.toml"
    if holds_nothing(recorded):
        raise UserError(f"{folder}: no run there; expected <results>/<env>/<agent>/seed_<n>")
    try:
        run: Any = tomllib.loads(read_text(recorded))
        status, env, seed = run["status"], run["env"], run["seed"]
        names = env["name"], env["id"], env["protocol"], run["agent"]["name"], seed, env["steps"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError) as error:
        raise UserError(f"{recorded}: not a valid run file: {error}") from error
    if status != "complete":
        raise UserError(f"{folder}: this run is {status!r}; a policy is written when it completes")
    pair = folder / "policy"
    if pair.is_dir():
        raise UserError(f"{pair}: a language model is a folder, which transformers reads: copy it")
    if not any(path.exists() for path in _pair(pair)):
        raise UserError(f"{folder}: this run has no policy: published without, or agent has none")
    policy = load(pair)
    about = policy.about
    if (about.env, about.id, about.protocol, about.agent, about.seed, about.step) != names:
        raise UserError(f"{pair}.toml: not the policy of the run in {recorded}")
    # Named after the run's folders: names inside untrusted files could be any path.
    out = out or Path("_".join(folder.resolve().parts[-3:]))
    try:
        return policy.save(out)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror}") from error


def _pair(path: Path | str) -> tuple[Path, Path]:
    """Paths of the two files of a pair."""
    name = str(path)
    for ending in LARGEST:
        name = name.removesuffix(ending)
    return Path(f"{name}.toml"), Path(f"{name}.safetensors")


def _names(layers: int) -> list[tuple[str, str]]:
    return [(f"{2 * layer}.weight", f"{2 * layer}.bias") for layer in range(layers)]


def _seal(text: bytes, data: bytes) -> bytes:
    """First line of the TOML file: digest of its other lines and of the safetensors file."""
    return f'sha256 = "{hashlib.sha256(text + data).hexdigest()}"'.encode()


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        if path.stat().st_size > LARGEST[path.suffix]:
            raise UserError(f"{path}: too large for a policy file")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
