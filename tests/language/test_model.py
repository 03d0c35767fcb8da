"""Log-probabilities and samples of a language model, and its fine-tuning."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from helpers.language import text_task
from helpers.tiny import CPU
from language_curvature import PROMPTS, problem, transformer
from torch.nn.functional import cross_entropy

from mujoco_sail.core.streams import Streams
from mujoco_sail.language.model import LanguageModel, build, corpus_of, memory, trained_part


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return build(text_task(), 0, CPU, tuned=True)


def test_samples_have_the_probabilities_of_the_model() -> None:
    """Also of the cache, with which a sample is drawn token by token."""
    one, draws = problem(0, 0.0), 20_000
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(draws, 4, generator=generator, dtype=torch.float64)
    found = one.policy.sample(PROMPTS[:1].expand(draws, -1), uniform)
    index = (found * torch.tensor([64, 16, 4, 1])).sum(1)
    frequency = torch.bincount(index, minlength=256) / draws
    chance = one.log_policy(one.policy)[0].detach().exp()
    deviation = (chance * (1 - chance) / draws).sqrt()
    assert ((frequency - chance).abs() < 5 * deviation + 1e-4).all()
    assert chance.max() > 4 / 256  # far from uniform


def test_after_the_end_nothing_is_drawn_and_nothing_counts() -> None:
    inner = transformer(0)
    ending = LanguageModel(inner.module, SimpleNamespace(size=4, end=3))  # type: ignore[arg-type]
    prompts = PROMPTS[:1].expand(500, -1)
    uniform = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)).double()
    found = ending.sample(prompts, uniform)
    ended = (found == 3).cumsum(1) > 0
    assert ended.any()
    assert (found[ended] == 3).all()
    row = torch.tensor([[1, 3, 3, 3]])
    places = inner.log_probs(prompts[:1], row)[0]
    expected = places[0, 1] + places[1, 3]
    torch.testing.assert_close(ending.log_prob(prompts[:1], row)[0], expected)


def test_padding_on_the_left_changes_no_probability() -> None:
    model = transformer(0)
    alone, padded = torch.tensor([[2]]), torch.tensor([[-1, 2]])
    completion = torch.tensor([[0, 3, 1]])
    expected = model.log_prob(alone, completion)
    torch.testing.assert_close(model.log_prob(padded, completion), expected)
    uniform = torch.rand(1, 3, generator=torch.Generator().manual_seed(0)).double()
    assert torch.equal(model.sample(padded, uniform), model.sample(alone, uniform))


def test_without_padding_the_library_gives_the_same_probabilities() -> None:
    model, ids = transformer(0), torch.tensor([[1, 2, 0, 3, 3]])
    expected = model.module(input_ids=ids).logits[:, 1:-1].log_softmax(-1)
    torch.testing.assert_close(model.log_probs(ids[:, :2], ids[:, 2:]), expected)


def test_fine_tuning_teaches_the_grammar() -> None:
    task = text_task(corpus_texts=2000, corpus_epochs=3, corpus_learning_rate=1e-2)
    corpus = corpus_of(task, Streams([9], "other texts", CPU))[:100]
    targets = torch.where(corpus < 0, -100, corpus)[:, 1:].flatten()
    losses = []
    for tuned in (build(task, 0, CPU, tuned=tuned) for tuned in (False, True)):
        logits = tuned.module(input_ids=corpus.clamp_min(0)).logits[:, :-1].flatten(0, 1)
        losses.append(cross_entropy(logits, targets).item())
    assert losses[1] < losses[0] - 0.3


def test_models_of_equal_seeds_are_equal_and_have_memory_of_their_own(
    model: LanguageModel,
) -> None:
    again, other = (build(text_task(), seed, CPU, tuned=True) for seed in (0, 1))
    for one, same, different in zip(
        model.parameters, again.parameters, other.parameters, strict=True
    ):
        assert torch.equal(one, same)
        assert one.data_ptr() != same.data_ptr()
        assert one.dim() == 1 or not torch.equal(one, different)


def test_only_the_last_blocks_and_what_follows_them_are_trained() -> None:
    module = build(text_task(), 0, CPU, tuned=False).module
    trained = {id(p) for p in trained_part(module, 1)}
    names = {name for name, p in module.named_parameters() if id(p) in trained}
    assert {name.split(".h.")[-1][:2] for name in names if ".h." in name} == {"1."}
    assert {name for name in names if ".h." not in name} == {
        "transformer.ln_f.weight",
        "transformer.ln_f.bias",
    }
    assert memory(text_task(trained_layers=1)) < memory(text_task())


def test_the_study_model_has_about_200_000_parameters() -> None:
    task = text_task(hidden_units=64, hidden_layers=4, heads=4)
    module = build(task, 0, CPU, tuned=False).module
    assert sum(p.numel() for p in module.parameters()) == pytest.approx(200_000, rel=0.05)
