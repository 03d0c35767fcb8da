"""Words, prompts and judge of a text task, and the environment that evaluates every agent.

The generated language has 24 words, the letters a to x, and a full stop, which ends a completion.
Its grammar is a Markov chain: every word has six usual followers. The grammar is one and the same
for all tasks and seeds; prompts and corpus are drawn from it.

Hidden rewards, all in [0, 1], of a completion with at most L words:

    vowels    number of its words that are a, e, i, o or u, divided by L
    echo      share of the prompt's different words that are in the completion
    reverse   share of the prompt's words that the completion repeats at their places backwards

The environment's observation has the token ids of the prompt, with -1 before a short one. An action
has a number in [-1, 1] per place of the completion; that interval has an equal part per token.
"""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray

from mujoco_sail.core.streams import seed_for
from mujoco_sail.environments.wrappers import Array, Info
from mujoco_sail.language.task import TextTask
from mujoco_sail.system import packages
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import home_expanded, read_text

Ids = NDArray[np.int64]

WORDS = tuple("abcdefghijklmnopqrstuvwx")
STOP = "."
FOLLOWERS = 6  # usual followers of a word
UNUSUAL = 0.1  # probability of any word instead of a usual follower
ENDING = 0.1  # probability that a text of the corpus ends after a word of its completion
PADDING = -1  # before a prompt that is shorter than the longest


def rule_reward(rule: str, prompt: list[str], completion: list[str], longest: int) -> float:
    """Hidden reward of the words of a completion with at most `longest` words, see the module."""
    if rule == "vowels":
        return sum(word in tuple("aeiou") for word in completion) / longest
    if rule == "echo":
        return len({*prompt} & {*completion}) / len({*prompt})
    places = zip(reversed(prompt), completion, strict=False)
    return sum(wanted == found for wanted, found in places) / len(prompt)


@cache
def _transitions() -> NDArray[np.float64]:
    """Distribution function of the next word, a row per word."""
    rng, count = np.random.default_rng(seed_for(0, "grammar")), len(WORDS)
    chance = np.full((count, count), UNUSUAL / count)
    for row in chance:
        usual = rng.choice(count, FOLLOWERS, replace=False)
        row[usual] += (1 - UNUSUAL) * rng.dirichlet(np.ones(FOLLOWERS))
    return chance.cumsum(1)


def chain(uniform: NDArray[np.floating[Any]]) -> Ids:
    """Words of the grammar from uniform draws, both [N, T]."""
    words = np.empty(uniform.shape, np.int64)
    words[:, 0] = uniform[:, 0] * len(WORDS)
    for t in range(1, uniform.shape[1]):
        rising = _transitions()[words[:, t - 1]]
        words[:, t] = (rising < uniform[:, t, None] * rising[:, -1:]).sum(1)
    return words.clip(0, len(WORDS) - 1)


class Text:
    """Tokens, prompts and judge of a task; a `UserError` if its files are unsuitable.

    Attributes:
        size: Number of tokens.
        end: Token that ends a completion; None if there is none.
    """

    def __init__(self, task: TextTask) -> None:
        self.task = task
        self._tokenizer = load(task, "model", "AutoTokenizer") if task.model else None
        self.size = len(self._tokenizer or (*WORDS, STOP))
        self.end = self._tokenizer.eos_token_id if self._tokenizer else len(WORDS)
        self._judge = _judge(task) if task.judge else None
        self._prompts = self._read_prompts() if task.prompts else None
        if self._tokenizer and self._prompts is None:
            self._encoded(" ".join(WORDS), "the words of generated prompts", len(WORDS))

    def encode(self, text: str) -> list[int]:
        """Tokens of a text; a `ValueError` if it has words that are no tokens."""
        if self._tokenizer is None:
            return [(*WORDS, STOP).index(word) for word in text.split()]
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        unknown = self._tokenizer.unk_token_id
        if unknown is not None and unknown in ids and unknown != self.end:
            raise ValueError("unknown token")
        return ids

    def decode(self, ids: Ids) -> str:
        """Text of tokens; padding is left out."""
        kept = ids[ids != PADDING]
        if self._tokenizer is None:
            return " ".join((*WORDS, STOP)[i] for i in kept)
        return str(self._tokenizer.decode(kept.tolist()))

    def draw_prompts(self, uniform: NDArray[np.floating[Any]]) -> Ids:
        """Prompts from uniform draws, both [N, prompt_tokens]; padded on the left."""
        if self._prompts is not None:
            return self._prompts[(uniform[:, 0] * len(self._prompts)).astype(np.int64)]
        words = chain(uniform)
        if self._tokenizer is None:
            return words
        texts = (" ".join(WORDS[i] for i in row) for row in words)
        return np.stack([self._padded(self.encode(text)) for text in texts])

    def rewards(self, prompts: Ids, completions: Ids) -> NDArray[np.float64]:
        """The judge's hidden rewards, [N], of completions [N, L] to prompts [N, P]."""
        texts = map(self.decode, map(self._until_end, completions))
        pairs = list(zip(map(self.decode, prompts), texts, strict=True))
        if self._judge is not None:
            return self._judge(pairs)
        longest = self.task.completion_tokens
        return np.array(
            [rule_reward(self.task.rule, x.split(), y.split(), longest) for x, y in pairs]
        )

    def _until_end(self, completion: Ids) -> Ids:
        ends = np.flatnonzero(completion == self.end)
        return completion[: ends[0]] if ends.size else completion

    def _padded(self, ids: list[int]) -> Ids:
        """Tokens of a prompt, padded on the left, [prompt_tokens]."""
        row = np.full(self.task.prompt_tokens, PADDING)
        row[len(row) - len(ids) :] = ids
        return row

    def _encoded(self, text: str, where: str, longest: int) -> list[int]:
        try:
            ids = self.encode(text)
        except (ValueError, TypeError):  # a lone surrogate is no text for a tokenizer
            raise UserError(
                f"{self.task.name}: key 'model' is '{self.task.model}'; its tokens lack a word "
                f"of {where}"
            ) from None
        if not 0 < len(ids) <= longest:
            raise UserError(
                f"{self.task.name}: {where}: {len(ids)} tokens; expected 1 to {longest}"
            )
        return ids

    def _read_prompts(self) -> Ids:
        """Prompts of the file, [N, prompt_tokens]."""
        path, rows = home_expanded(self.task.prompts), []
        where = f"{self.task.name}: key 'prompts' is '{self.task.prompts}'"
        try:
            lines = read_text(path).split("\n")
        except (OSError, ValueError) as error:
            raise UserError(f"{where}; it cannot be read: {error}") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                prompt = json.loads(line)["prompt"]
            except (ValueError, LookupError, TypeError, RecursionError):
                prompt = None
            if not isinstance(prompt, str):
                raise UserError(f'{where}; line {number}: expected {{"prompt": "a text"}}')
            ids = self._encoded(prompt, f"{path.name}, line {number}", self.task.prompt_tokens)
            if self._judge is None and (self.end in ids or not prompt.split()):
                raise UserError(f"{where}; line {number}: expected words alone, for the rule")
            rows.append(self._padded(ids))
        if not rows:
            raise UserError(f"{where}; it is empty: expected a prompt in every line")
        return np.stack(rows)


def load(task: TextTask, key: str, kind: str, **options: Any) -> Any:
    """Loads an object of a class of transformers from the folder that a key of the task names.

    Raises:
        UserError: It is not there; nothing is looked for in the network.
    """
    library = packages.load("transformers", f"{task.name}: key '{key}'")
    folder = str(home_expanded(getattr(task, key)))
    try:
        return getattr(library, kind).from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # the library raises many types
        raise no_model(task, key, error) from error


def load_model(task: TextTask, key: str, kind: str, **options: Any) -> Any:
    """Loads a model, see `load`; one without all its weights is refused: they would be random."""
    model, about = load(task, key, kind, output_loading_info=True, **options)
    if lacking := sorted(about["missing_keys"]):
        raise no_model(task, key, f"its files lack {lacking[0]}")
    return model


def no_model(task: TextTask, key: str, reason: object) -> UserError:
    """Error for a folder that is no model."""
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return UserError(
        f"{task.name}: key '{key}' is '{getattr(task, key)}'; no model there: {lines[0]}"
    )


def _judge(task: TextTask) -> Callable[[list[tuple[str, str]]], NDArray[np.float64]]:
    """Function from prompts and completions to the rewards of the reward model.

    Of a text that is longer than the model's context it gets the last tokens.
    """
    model = load_model(task, "judge", "AutoModelForSequenceClassification").eval()
    tokenizer = load(task, "judge", "AutoTokenizer", truncation_side="left")
    if model.config.num_labels != 1:
        raise no_model(task, "judge", "expected a classifier with one label")
    context = getattr(model.config, "max_position_embeddings", None)
    shortened = {"truncation": context is not None, "max_length": context}

    def judge(pairs: list[tuple[str, str]]) -> NDArray[np.float64]:
        texts = [f"{x} {y}" for x, y in pairs]
        rows = [tokenizer(text, return_tensors="pt", **shortened)["input_ids"] for text in texts]
        with torch.no_grad():
            return np.array([float(model(row).logits) for row in rows])

    return judge


def text_of(task: TextTask) -> Text:
    """The text of a task, one object per process as long as the recipe's files are the same."""
    return _text(task, tuple(file.stat().st_mtime_ns for file in task.files))


@cache
def _text(task: TextTask, times: tuple[int, ...]) -> Text:
    return Text(task)


def to_actions(ids: Ids, tokens: int) -> NDArray[np.float32]:
    """Actions of token ids, of the same shape: the middles of their intervals."""
    return ((2 * ids + 1) / tokens - 1).astype(np.float32)


def to_tokens(actions: Array, tokens: int) -> Ids:
    """Token ids of actions, of the same shape."""
    places = np.floor((np.asarray(actions, np.float64) + 1) / 2 * tokens)
    return places.clip(0, tokens - 1).astype(np.int64)


class TextEnvironment(gymnasium.Env[Array, Array]):
    """Environment whose episode is one completion of one prompt."""

    def __init__(self, task: TextTask) -> None:
        """Reads the prompts and the judge of the task, once per process."""
        self.text, self.places = text_of(task), task.prompt_tokens
        self.observation_space = Box(PADDING, self.text.size - 1, (task.prompt_tokens,))
        self.action_space = Box(-1, 1, (task.completion_tokens,))

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Draws a prompt."""
        super().reset(seed=seed)
        self._prompt = self.text.draw_prompts(self.np_random.random((1, self.places)))
        return self._prompt[0].astype(np.float32), {}

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, Info]:
        """Judges a completion and ends the episode."""
        completion = to_tokens(action, self.text.size)[None]
        reward = float(self.text.rewards(self._prompt, completion)[0])
        return self._prompt[0].astype(np.float32), reward, True, False, {}


gymnasium.register("Text-v0", f"{__name__}:{TextEnvironment.__name__}")
