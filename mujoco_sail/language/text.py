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
from collections.abc import Iterable
from functools import cache
from itertools import takewhile
from typing import Any

import gymnasium
import numpy as np
import torch
import transformers
from gymnasium.spaces import Box
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from mujoco_sail.core.streams import seed_for
from mujoco_sail.environments.wrappers import Array, Info
from mujoco_sail.language.task import TextTask
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import home_expanded, read_text

HF: Any = transformers  # without its annotations, which are incomplete
HF.utils.logging.disable_progress_bar()
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
        judge: Reward model; None for the rule.
    """

    def __init__(self, task: TextTask) -> None:
        self.task = task
        self._tokenizer = tokenizer_of(task)
        self.size, self.end = len(self._tokenizer), self._tokenizer.eos_token_id
        self.judge = Judge(task) if task.judge else None
        self._prompts = self._read_prompts() if task.prompts else None
        if self._prompts is None:
            self.encode(" ".join(WORDS), "the words of generated prompts", len(WORDS))

    def encode(self, text: str, where: str, longest: int) -> list[int]:
        """Tokens of a text; a `UserError` if they lack a word or are not 1 to `longest`."""
        unknown = self._tokenizer.unk_token_id
        try:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
            lacking = unknown in ids and unknown != self.end
        except Exception:  # tokenizers raise many types
            lacking = True
        if lacking:
            raise self.task.error("model", f"its tokens lack a word of {where}")
        if not 0 < len(ids) <= longest:
            expected = f"expected 1 to {longest}"
            raise UserError(f"{self.task.name}: {where}: {len(ids)} tokens; {expected}")
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of tokens; padding is left out."""
        return str(self._tokenizer.decode([i for i in ids if i != PADDING]))

    def draw_prompts(self, uniform: NDArray[np.floating[Any]]) -> Ids:
        """Prompts from uniform draws, both [N, prompt_tokens]; padded on the left."""
        if self._prompts is not None:
            return self._prompts[(uniform[:, 0] * len(self._prompts)).astype(np.int64)]
        texts = (" ".join(WORDS[i] for i in row) for row in chain(uniform))
        ids = (self.encode(text, "a generated prompt", self.task.prompt_tokens) for text in texts)
        return np.stack([self._padded(row) for row in ids])

    def rewards(self, prompts: Ids | Tensor, completions: Ids | Tensor) -> NDArray[np.float64]:
        """The judge's hidden rewards, [N], of completions [N, L] to prompts [N, P]."""
        ended = (takewhile(lambda i: i != self.end, row) for row in completions.tolist())
        both = map(self.decode, prompts.tolist()), map(self.decode, ended)
        pairs = list(zip(*both, strict=True))
        if self.judge is not None:
            return self.judge.rewards(pairs)
        rule, longest = self.task.rule, self.task.completion_tokens
        return np.array([rule_reward(rule, x.split(), y.split(), longest) for x, y in pairs])

    def _padded(self, ids: list[int]) -> Ids:
        """Tokens of a prompt, padded on the left, [prompt_tokens]."""
        return np.pad(ids, (self.task.prompt_tokens - len(ids), 0), constant_values=PADDING)

    def _read_prompts(self) -> Ids:
        """Prompts of the file, [N, prompt_tokens]."""
        task, path, rows = self.task, home_expanded(self.task.prompts), []
        try:
            lines = read_text(path).split("\n")
        except (OSError, ValueError) as error:
            raise task.error("prompts", f"it cannot be read: {error}") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                prompt = json.loads(line)["prompt"]
            except (ValueError, LookupError, TypeError, RecursionError):
                prompt = None
            if not isinstance(prompt, str):
                raise task.error("prompts", f'line {number}: expected {{"prompt": "a text"}}')
            ids = self.encode(prompt, f"{path.name}, line {number}", task.prompt_tokens)
            if self.judge is None and (self.end in ids or not prompt.split()):
                raise task.error("prompts", f"line {number}: expected words alone, for the rule")
            rows.append(self._padded(ids))
        if not rows:
            raise task.error("prompts", "it is empty: expected a prompt in every line")
        return np.stack(rows)


class Judge:
    """Reward model of a task; of a text that is longer than its context it gets the last tokens."""

    def __init__(self, task: TextTask) -> None:
        self.model = task.load_model("judge", HF.AutoModelForSequenceClassification).eval()
        self._tokenizer = task.load("judge", HF.AutoTokenizer, truncation_side="left")
        if self.model.config.num_labels != 1:
            raise task.no_model("judge", "expected a classifier with one label")
        context = getattr(self.model.config, "max_position_embeddings", None)
        self._limit = {"truncation": context is not None, "max_length": context}

    @torch.no_grad()
    def rewards(self, pairs: list[tuple[str, str]]) -> NDArray[np.float64]:
        """Rewards, [N], of N prompts with their completions."""
        texts = [f"{x} {y}" for x, y in pairs]
        rows = [self._tokenizer(t, return_tensors="pt", **self._limit)["input_ids"] for t in texts]
        return np.array([float(self.model(row).logits) for row in rows])


def tokenizer_of(task: TextTask) -> Any:
    """Tokenizer of a task's model; that of the generated language has a token per word."""
    if task.model:
        return task.load("model", HF.AutoTokenizer)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate((*WORDS, STOP))}))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return HF.PreTrainedTokenizerFast(tokenizer_object=words, eos_token=STOP)


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
