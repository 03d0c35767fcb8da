"""Causal language models of transformers: log-probabilities, samples, fine-tuning, folders."""

import inspect
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mujoco_sail.core.optimiser import MemberAdam
from mujoco_sail.core.state import Tree
from mujoco_sail.core.streams import Streams
from mujoco_sail.language.task import TextTask
from mujoco_sail.language.text import ENDING, HF, PADDING, WORDS, Text, chain, text_of, tokenizer_of
from mujoco_sail.system.files import home_expanded, write_bytes

NUMBER = 4  # bytes of a float32
ACTIVATIONS = 24  # numbers per token, block and hidden unit that a gradient needs
GRADIENTS = 6  # numbers per trained parameter: of T1, T2 and the anchor, and their sums
SAVED = 10  # numbers per trained parameter of a checkpoint, as tensors, written and read back
INITIAL_STD = 0.02  # of weights, as GPT-2's
TOLERANCE = 1e-3  # in nats, of log-probabilities with and without a cache


class LanguageModel:
    """Causal language model.

    Args:
        module: A causal model of transformers.
        text: Tokens that may be drawn, the first of the model's vocabulary, and their end.
        trained_layers: Last blocks that are trained, with the final norm; 0 for all parameters.
    """

    def __init__(self, module: Any, text: Text, trained_layers: int = 0) -> None:
        self.module, self.text = module.eval().requires_grad_(False), text
        self.tokens, self.end = text.size, text.end
        self.parameters = trained_part(module, trained_layers)
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
        ids, drawn, cache = prompts.to(self.module.device), None, None
        for u in uniform.to(self.module.device).unbind(1):
            made = self._forward(ids, use_cache=True, cache=cache)
            rising = made.logits[:, -1, : self.tokens].softmax(-1).cumsum(-1)
            token = torch.searchsorted(rising, u[:, None] * rising[:, -1:], right=True)
            token = token.clamp_max(self.tokens - 1)
            if drawn is not None and self.end is not None:
                token = torch.where(drawn == self.end, self.end, token)
            ids, drawn, cache = torch.cat([ids, token], 1), token, made.cache
        return ids[:, prompts.shape[1] :].cpu()

    @torch.no_grad()
    def fault(self) -> str:
        """Why samples do not have the distribution of `log_probs`; empty if they do.

        With a cache, as in `sample`, the next token must have the same probabilities as in one
        pass, as in `log_probs`, and later tokens must not change earlier places.
        """
        ids = torch.arange(8).view(2, 4) % self.tokens
        ids[0, :2] = PADDING
        try:
            whole, start = self._forward(ids).logits, self._forward(ids[:, :3], use_cache=True)
            cached = self._forward(ids, use_cache=True, cache=start.cache).logits
            for fault, one, other in (
                ("its later tokens change earlier probabilities", start.logits[:, 2], whole[:, 2]),
                ("its probabilities differ with a cache", cached[:, -1], whole[:, 3]),
            ):
                if not torch.allclose(one.log_softmax(-1), other.log_softmax(-1), atol=TOLERANCE):
                    return fault
        except Exception as error:  # architectures differ in what they accept
            return f"it cannot be used: {error}"
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

    @torch.no_grad()
    def load(self, saved: Tree) -> None:
        """Restores the state that `state` returned, in place: an optimiser may have views of it."""
        parts = saved["parameters"][0].split([p.numel() for p in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.copy_(part.view_as(parameter))

    def save(self, path: Path | str) -> list[Path]:
        """Writes model and tokenizer, as transformers reads them, into a folder, file by file."""
        with TemporaryDirectory() as scratch:
            self.module.save_pretrained(scratch)
            tokenizer_of(self.text.task).save_pretrained(scratch)
            made = sorted(file for file in Path(scratch).iterdir() if file.is_file())
            for file in made:
                write_bytes(Path(path) / file.name, file.read_bytes())
        return [Path(path) / file.name for file in made]


def until_end(completions: Tensor, end: int | None) -> Tensor:
    """1 up to and including the first end of completions, 0 after it, [B, L]."""
    ends = (completions == end) if end is not None else torch.zeros_like(completions).bool()
    return (ends.cumsum(1) - ends.long() == 0).float()


def trained_part(module: Any, layers: int) -> list[nn.Parameter]:
    """Parameters of the last blocks of a model and of the modules that it lists after them.

    These are usually the final norm. All parameters if `layers` is 0.
    """
    if not layers:
        return list(module.parameters())
    for parent in module.modules():
        children = list(parent.children())
        for at, child in enumerate(children):
            if isinstance(child, nn.ModuleList) and len(child) == module.config.num_hidden_layers:
                return list(nn.ModuleList([*child[-layers:], *children[at + 1 :]]).parameters())
    return []


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
def pretrained(task: TextTask, seed: int) -> Mapping[str, Tensor]:
    """State of the generated model after its fine-tuning on the corpus of a seed."""
    module = generated(task)
    streams = Streams([seed], "corpus", torch.device("cpu"))
    initialise(module, streams.generators[0])
    corpus = corpus_of(task, streams)
    parameters = list(module.parameters())
    adam = MemberAdam.of_one(parameters, task.corpus_learning_rate)
    for _ in range(max(1, task.corpus_epochs * len(corpus) // task.batch_size)):
        texts = corpus[streams.integers(len(corpus), task.batch_size)[0]]
        logits = module(input_ids=texts.clamp_min(0)).logits[:, :-1].flatten(0, 1)
        loss = cross_entropy(logits, texts[:, 1:].flatten(), ignore_index=PADDING)
        adam.step(torch.autograd.grad(loss, parameters))
    return module.state_dict()  # type: ignore[no-any-return]


def corpus_of(task: TextTask, streams: Streams) -> Tensor:
    """Texts of the corpus, [N, P + L]: a prompt, its continuation, the end, then padding."""
    shape = task.corpus_texts, task.prompt_tokens + task.completion_tokens
    words = torch.from_numpy(chain(streams.uniform(*shape)[0].numpy()))
    ending = streams.uniform(*shape)[0] < ENDING
    ending[:, : task.prompt_tokens + 1] = False
    words[ending] = len(WORDS)
    return torch.where(until_end(words, len(WORDS)) > 0, words, PADDING)


def build(task: TextTask, seed: int, device: torch.device, *, tuned: bool) -> LanguageModel:
    """The reference of a task: the folder's model, or the generated one, `tuned` or arbitrary.

    Raises:
        UserError: The folder's model cannot be used, see `LanguageModel.fault`.
    """
    if task.model:
        module = task.load_model("model", HF.AutoModelForCausalLM, dtype=torch.float32)
    else:
        module = generated(task)
        if tuned:
            module.load_state_dict(pretrained(task, seed))
    model = LanguageModel(module.to(device), text_of(task), task.trained_layers)
    if task.model and (fault := model.fault()):
        raise task.no_model("model", fault)
    return model


def skeleton(task: TextTask) -> Any:
    """Model of a task; that of a folder has no memory for its parameters.

    Raises:
        UserError: The folder has no model, or one whose sizes do not fit the task.
    """
    if not task.model:
        return generated(task)
    config, size = task.load("model", HF.AutoConfig), text_of(task).size
    try:
        with torch.device("meta"):
            module = HF.AutoModelForCausalLM.from_config(config)
        tokens, blocks = config.vocab_size, config.num_hidden_layers
    except Exception as error:  # the library raises many types
        raise task.no_model("model", error) from error
    files = [path.suffix for path in home_expanded(task.model).iterdir()]
    longest = task.prompt_tokens + task.completion_tokens
    context = getattr(config, "max_position_embeddings", longest)
    for fault, found in (
        ("it has no weights", not {".safetensors", ".bin"} & {*files}),
        (f"its tokenizer has {size} tokens, the model {tokens}", size > tokens),
        (f"prompt and completion have {longest} tokens, its context {context}", longest > context),
        ("its blocks are in no list", not trained_part(module, task.trained_layers)),
        (f"it has {blocks} blocks to train", task.trained_layers > blocks),
    ):
        if found:
            raise task.no_model("model", fault)
    return module


def memory(task: TextTask) -> float:
    """Estimates the bytes of a member: both models, Adam's moments, and its largest phase."""
    module, judge = skeleton(task), text_of(task).judge
    total = sum(p.numel() for p in module.parameters())
    trained = sum(p.numel() for p in trained_part(module, task.trained_layers))
    judging = sum(p.numel() for p in judge.model.parameters()) if judge else 0
    config, length = module.config, task.prompt_tokens + task.completion_tokens
    per_token = ACTIVATIONS * config.num_hidden_layers * config.hidden_size
    compared, evaluated = task.labels_per_session, task.evaluation_episodes
    learn = GRADIENTS * trained + 3 * compared * length * (per_token + 4 * config.vocab_size)
    draw = 2 * compared * task.candidates_per_label * length * config.vocab_size
    evaluate = evaluated * (length + 4 * task.completion_tokens) * config.vocab_size
    phase = max(learn, draw, evaluate, SAVED * trained)
    return float(NUMBER * (2 * total + 2 * trained + phase + judging))
