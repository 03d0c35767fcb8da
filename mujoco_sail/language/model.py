"""Causal language models of transformers: log-probabilities, samples, fine-tuning, folders."""

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mujoco_sail.core.optimiser import MemberAdam
from mujoco_sail.core.state import Tree
from mujoco_sail.core.streams import Streams
from mujoco_sail.language.task import TextTask
from mujoco_sail.language.text import (
    ENDING,
    PADDING,
    STOP,
    WORDS,
    chain,
    load,
    load_model,
    no_model,
    text_of,
)
from mujoco_sail.system.files import home_expanded, write_bytes

HF: Any = transformers  # without its annotations, which are incomplete
HF.utils.logging.disable_progress_bar()
NUMBER = 4  # bytes of a float32
ACTIVATIONS = 24  # numbers per token, block and hidden unit that a gradient needs
GRADIENTS = 6  # numbers per trained parameter: of T1, T2 and the anchor, and their sums
SAVED = 10  # numbers per trained parameter of a checkpoint, as tensors, written and read back
IGNORED = -100  # target without a loss
INITIAL_STD = 0.02  # of weights, as GPT-2's
TOLERANCE = 1e-3  # in nats, of log-probabilities with and without a cache


class LanguageModel:
    """Causal language model.

    Args:
        module: A causal model of transformers.
        tokens: Number of tokens that may be drawn, the first of its vocabulary.
        end: Token that ends a completion; None if there is none.
        trained_layers: Last blocks that are trained, with the final norm; 0 for all parameters.
    """

    def __init__(self, module: Any, tokens: int, end: int | None, trained_layers: int = 0) -> None:
        self.module, self.tokens, self.end = module.eval(), tokens, end
        self.parameters = list(trained_part(module, trained_layers))
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        for parameter in self.parameters:
            parameter.requires_grad_()
        self._places = "position_ids" in inspect.signature(module.forward).parameters

    def log_probs(self, prompts: Tensor, completions: Tensor) -> Tensor:
        """Log-probabilities of all tokens at every place, [B, L, V], differentiable.

        Prompts [B, P] are padded on the left; completions are [B, L].
        """
        ids = torch.cat([prompts, completions[:, :-1].to(prompts.device)], 1)
        logits: Tensor = self._forward(ids).logits[:, prompts.shape[1] - 1 :, : self.tokens]
        return logits.log_softmax(-1)

    def log_prob(self, prompts: Tensor, completions: Tensor) -> Tensor:
        """Log pi(y|x) of completions [B, L] to prompts [B, P], [B]; differentiable."""
        drawn = completions.to(self.module.device)
        chosen = self.log_probs(prompts, drawn).gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
        return (chosen * until_end(drawn, self.end)).sum(-1)

    @torch.no_grad()
    def sample(self, prompts: Tensor, uniform: Tensor) -> Tensor:
        """Draws completions, [B, L], on the CPU; after the end, the end is repeated.

        `uniform`, [B, L], is put into the inverse of every token's distribution function.
        """
        prompts, uniform = prompts.to(self.module.device), uniform.to(self.module.device)
        made = self._forward(prompts, use_cache=True)
        columns: list[Tensor] = []
        for t in range(uniform.shape[1]):
            rising = made.logits[:, -1, : self.tokens].softmax(-1).cumsum(-1)
            threshold = uniform[:, t, None] * rising[:, -1:]
            token = torch.searchsorted(rising, threshold, right=True)
            token = token.clamp_max(self.tokens - 1).squeeze(1)
            if columns and self.end is not None:
                token = torch.where(columns[-1] == self.end, self.end, token)
            columns.append(token)
            if t + 1 < uniform.shape[1]:
                ids = torch.cat([prompts, torch.stack(columns, 1)], 1)
                made = self._forward(ids, use_cache=True, cache=made.cache)
        return torch.stack(columns, 1).cpu()

    @torch.no_grad()
    def fault(self) -> str:
        """Why samples do not have the distribution of `log_probs`; empty if they do.

        With a cache, as in `sample`, the next token must have the same probabilities as in one
        pass, as in `log_probs`, and later tokens must not change earlier places.
        """
        ids = torch.arange(8).view(2, 4) % self.tokens
        ids[0, :2] = PADDING
        whole, start = self._forward(ids).logits, self._forward(ids[:, :3], use_cache=True)
        cached = self._forward(ids, use_cache=True, cache=start.cache).logits
        for fault, one, other in (
            ("its later tokens change earlier probabilities", start.logits[:, 2], whole[:, 2]),
            ("its probabilities differ with a cache", cached[:, -1], whole[:, 3]),
        ):
            if not torch.allclose(one.log_softmax(-1), other.log_softmax(-1), atol=TOLERANCE):
                return fault
        return ""

    def _forward(self, ids: Tensor, **options: Any) -> Any:
        """Calls the model; with a cache, for the last token alone."""
        ids = ids.to(self.module.device)
        mask = ids != PADDING
        options["attention_mask"] = mask.long()
        places = (mask.cumsum(1) - 1).clamp_min(0)
        ids = ids.clamp_min(0)
        if options.get("cache") is not None:
            ids, places = ids[:, -1:], places[:, -1:]
        if self._places:
            options["position_ids"] = places
        return self.module(input_ids=ids, **options)

    def state(self) -> Tree:
        """State for a checkpoint, see `core.state`."""
        return {"parameters": nn.utils.parameters_to_vector(self.parameters).detach()[None]}

    def load(self, saved: Tree) -> None:
        """Restores the state that `state` returned."""
        _fill(self.parameters, saved["parameters"][0])


@torch.no_grad()
def _fill(parameters: Iterable[Tensor], vector: Tensor) -> None:
    """Copies a vector into parameters; those of PyTorch's function would be views of it."""
    for parameter in parameters:
        part, vector = vector.tensor_split([parameter.numel()])
        parameter.copy_(part.view_as(parameter))


def until_end(completions: Tensor, end: int | None) -> Tensor:
    """1 up to and including the first end of completions, 0 after it, [B, L]."""
    ends = (completions == end) if end is not None else torch.zeros_like(completions).bool()
    return (ends.cumsum(1) - ends.long() == 0).float()


def trained_part(module: Any, layers: int) -> Iterator[nn.Parameter]:
    """Parameters of the last blocks of a model and of the norm after them; of all for 0."""
    if not layers:
        yield from module.parameters()
        return
    for parent in module.modules():
        children = list(parent.children())
        for at, child in enumerate(children):
            if isinstance(child, nn.ModuleList) and len(child) == module.config.num_hidden_layers:
                yield from child[-layers:].parameters()
                for later in children[at + 1 :]:
                    yield from later.parameters()
                return


def generated(task: TextTask) -> Any:
    """GPT-2 of the task's size, for the words of generated texts; its weights are arbitrary."""
    text = text_of(task)
    config = HF.GPT2Config(
        vocab_size=text.size,
        n_positions=task.prompt_tokens + task.completion_tokens,
        n_embd=task.hidden_units,
        n_layer=task.hidden_layers,
        n_head=task.heads,
        attn_implementation="eager",
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        **dict.fromkeys(("bos_token_id", "eos_token_id"), text.end),
    )
    with torch.random.fork_rng(devices=[]):  # the library draws initial weights, which are replaced
        return HF.GPT2LMHeadModel(config)


@torch.no_grad()
def initialise(module: Any, generator: torch.Generator) -> None:
    """Draws weights ~ N(0, 0.02^2); biases are 0 and gains of norms 1."""
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=INITIAL_STD, generator=generator)
        else:
            parameter.fill_(float(name.endswith("weight")))


@cache
def pretrained(task: TextTask, seed: int) -> Tensor:
    """Parameters of the generated model after its fine-tuning on the corpus of a seed."""
    module = generated(task)
    streams = Streams([seed], "corpus", torch.device("cpu"))
    initialise(module, streams.generators[0])
    corpus = corpus_of(task, streams)
    targets = torch.where(corpus == PADDING, IGNORED, corpus)
    parameters = list(module.parameters())
    views = [parameter.detach()[None] for parameter in parameters]
    adam = MemberAdam(views, 1, task.corpus_learning_rate)
    for _ in range(max(1, task.corpus_epochs * len(corpus) // task.batch_size)):
        rows = streams.integers(len(corpus), task.batch_size)[0]
        logits = module(input_ids=corpus[rows].clamp_min(0)).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), targets[rows, 1:].flatten())
        adam.step([g[None] for g in torch.autograd.grad(loss, parameters)])
    return nn.utils.parameters_to_vector(parameters).detach()


def corpus_of(task: TextTask, streams: Streams) -> Tensor:
    """Texts of the corpus, [N, P + L]: a prompt, its continuation, the end, then padding."""
    shape = task.corpus_texts, task.prompt_tokens + task.completion_tokens
    words = torch.from_numpy(chain(streams.uniform(*shape)[0].numpy()))
    ending = streams.uniform(*shape)[0] < ENDING
    ending[:, : task.prompt_tokens + 1] = False
    after = ending.cumsum(1)
    words[ending & (after == 1)] = len(WORDS)
    words[after - ending.long() > 0] = PADDING
    return words


def build(task: TextTask, seed: int, device: torch.device, *, tuned: bool) -> LanguageModel:
    """The reference of a task: the folder's model, or the generated one, `tuned` or arbitrary.

    Raises:
        UserError: The folder's model cannot be used, see `LanguageModel.fault`.
    """
    text = text_of(task)
    if task.model:
        module = load_model(task, "model", "AutoModelForCausalLM", dtype=torch.float32)
    else:
        module = generated(task)
        if tuned:
            _fill(module.parameters(), pretrained(task, seed))
    model = LanguageModel(module.to(device), text.size, text.end, task.trained_layers)
    if task.model:
        try:
            fault = model.fault()
        except Exception as error:  # architectures differ in what they accept
            raise no_model(task, "model", f"it cannot be used: {error}") from error
        if fault:
            raise no_model(task, "model", fault)
    return model


def skeleton(task: TextTask) -> Any:
    """Model of a task; that of a folder has no memory for its parameters.

    Raises:
        UserError: The folder has no model, or one whose sizes do not fit the task.
    """
    if not task.model:
        return generated(task)
    config, size = load(task, "model", "AutoConfig"), text_of(task).size
    try:
        with torch.device("meta"):
            module = HF.AutoModelForCausalLM.from_config(config)
        tokens, blocks = config.vocab_size, config.num_hidden_layers
    except Exception as error:  # the library raises many types
        raise no_model(task, "model", error) from error
    files = [path.suffix for path in home_expanded(task.model).iterdir()]
    longest = task.prompt_tokens + task.completion_tokens
    context = getattr(config, "max_position_embeddings", longest)
    for fault, found in (
        ("it has no weights", not {".safetensors", ".bin"} & {*files}),
        (f"its tokenizer has {size} tokens, the model {tokens}", size > tokens),
        (f"prompt and completion have {longest} tokens, its context {context}", longest > context),
        ("its blocks are in no list", not list(trained_part(module, task.trained_layers))),
        (f"it has {blocks} blocks to train", task.trained_layers > blocks),
    ):
        if found:
            raise no_model(task, "model", fault)
    return module


def memory(task: TextTask) -> float:
    """Estimates the bytes of a member: both models, Adam's moments, and its largest phase."""
    module = skeleton(task)
    total = sum(p.numel() for p in module.parameters())
    trained = sum(p.numel() for p in trained_part(module, task.trained_layers))
    config, length = module.config, task.prompt_tokens + task.completion_tokens
    per_token = ACTIVATIONS * config.num_hidden_layers * config.hidden_size
    compared, evaluated = task.labels_per_session, task.evaluation_episodes
    learn = GRADIENTS * trained + 3 * compared * length * (per_token + 4 * config.vocab_size)
    draw = 2 * compared * task.candidates_per_label * length * config.vocab_size
    evaluate = evaluated * (length + 4 * task.completion_tokens) * config.vocab_size
    phase = max(learn, draw, evaluate, SAVED * trained)
    return float(NUMBER * (2 * total + 2 * trained + phase + _judge_numbers(task)))


def _judge_numbers(task: TextTask) -> int:
    """Number of parameters of the reward model."""
    if not task.judge:
        return 0
    with torch.device("meta"):
        judge = HF.AutoModelForSequenceClassification.from_config(load(task, "judge", "AutoConfig"))
    return sum(p.numel() for p in judge.parameters())


@dataclass(frozen=True)
class ModelFolder:
    """Language model, to be written as transformers reads it."""

    task: TextTask
    model: LanguageModel

    def save(self, path: Path | str) -> list[Path]:
        """Writes model and tokenizer into the folder `path`, file by file."""
        if self.task.model:
            tokenizer = load(self.task, "model", "AutoTokenizer")
        else:
            words = Tokenizer(models.WordLevel({word: i for i, word in enumerate((*WORDS, STOP))}))
            words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
            tokenizer = HF.PreTrainedTokenizerFast(tokenizer_object=words, eos_token=STOP)
        with TemporaryDirectory() as scratch:
            self.model.module.save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
            made = sorted(file for file in Path(scratch).iterdir() if file.is_file())
            for file in made:
                write_bytes(Path(path) / file.name, file.read_bytes())
        return [Path(path) / file.name for file in made]
