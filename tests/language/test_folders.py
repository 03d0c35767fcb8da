"""Models, tokenizers, prompts and judges of the user, and mistakes in them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.language import run_text, text_task
from helpers.runs import MakeRun
from helpers.tiny import CPU
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedTokenizerFast,
)

from mujoco_sail.language.model import build
from mujoco_sail.language.text import text_of
from mujoco_sail.system.errors import UserError

DPO = "language/online_dpo"
LETTERS = [*"abcdefghijklmnopqrstuvwxyz", "<unk>", "<end>"]
LLAMA = {
    "vocab_size": len(LETTERS),
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 27,
    "pad_token_id": 27,
}


def tokenizer_of(words: list[str]) -> PreTrainedTokenizerFast:
    made = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<end>", pad_token="<end>", unk_token="<unk>"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model of another architecture, made by transformers alone."""
    home = tmp_path_factory.mktemp("llama")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**LLAMA)).save_pretrained(home)
    tokenizer_of(LETTERS).save_pretrained(home)
    return home


def prompts(path: Path, *texts: str) -> str:
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return f"env.prompts={path}"


def test_a_folder_is_aligned_for_ten_steps_and_loaded_by_transformers_alone(
    folder: Path, tmp_path: Path, make_run: MakeRun
) -> None:
    """Prompts of unequal lengths; only the last block and the last norm are trained."""
    prompts(tmp_path / "p.jsonl", "a b c", "z", "q r s t")
    task = text_task(
        model=str(folder),
        prompts=str(tmp_path / "p.jsonl"),
        trained_layers=1,
        steps=80,
        labels=40,
    )
    run = make_run([(DPO, 0)], task)
    run.execute()
    home = run.files[0].folder
    assert (home / "training.csv").read_text().splitlines()[-1].split(",")[1] == "10"
    before, after = (AutoModelForCausalLM.from_pretrained(x) for x in (folder, home / "policy"))
    changed = {
        name
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(old, new)
    }
    assert changed
    assert all(name.startswith(("model.layers.1.", "model.norm.")) for name in changed)
    tokenizer = AutoTokenizer.from_pretrained(home / "policy")
    ids = tokenizer("a b c", return_tensors="pt")["input_ids"]
    made = after.generate(ids, max_new_tokens=3, do_sample=False)
    assert made.shape[1] > 3


def test_a_generated_model_is_loaded_by_transformers_alone(make_run: MakeRun) -> None:
    run = make_run([(DPO, 0)], text_task(steps=20, labels=4))
    run.execute()
    home = run.files[0].folder / "policy"
    assert isinstance(AutoModelForCausalLM.from_pretrained(home), GPT2LMHeadModel)
    assert AutoTokenizer.from_pretrained(home)("a x .")["input_ids"] == [0, 23, 24]


@pytest.mark.parametrize("context", [64, 8])
def test_a_reward_model_judges(tmp_path: Path, make_run: MakeRun, context: int) -> None:
    """With a context of 8 it gets the last tokens of a text of 12."""
    judge, changes = tmp_path / "judge", {"max_position_embeddings": context, "num_labels": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = LlamaForSequenceClassification(LlamaConfig(**{**LLAMA, **changes}))
        model.save_pretrained(judge)
    tokenizer_of(LETTERS).save_pretrained(judge)
    run = make_run([(DPO, 0)], text_task(judge=str(judge)))
    run.execute()
    assert (
        len({query.return_1 for query in run.feedback.queries[0]}) > 10
    )  # a rule has at most five values here


def refused(capsys: pytest.CaptureFixture[str], results: Path, *changes: str) -> str:
    more = [part for change in changes for part in ("--set", change)]
    assert run_text(results, DPO, "language/echo", *more) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert not results.exists()
    return said


def test_a_folder_that_is_no_model_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, empty = tmp_path / "results", tmp_path / "empty"
    empty.mkdir()
    for place in (empty, tmp_path / "nowhere"):
        said = refused(capsys, results, f"env.model={place}")
        assert f"key 'model' is '{place}'; no model there" in said
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (bare / name).write_bytes((folder / name).read_bytes())
    assert "no weights" in refused(capsys, results, f"env.model={bare}")
    for config in ("{", '{"model_type": "gemma3"}', '{"model_type": "llama", "hidden_act": "x"}'):
        (bare / "config.json").write_text(config)
        assert "no model there" in refused(capsys, results, f"env.model={bare}")
    assert "no model there" in refused(capsys, results, "env.model=~nosuchuser/x")
    said = refused(capsys, results, f"env.model={folder}", "env.trained_layers=3")
    assert "no model there: it has 2 blocks to train" in said


def test_a_folder_that_lacks_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    """They would be random, and others in the policy than in the reference."""
    home = tmp_path / "headless"
    LlamaModel(LlamaConfig(**LLAMA)).save_pretrained(home)
    tokenizer_of(LETTERS).save_pretrained(home)
    with pytest.raises(UserError, match=r"its files lack lm_head\.weight"):
        build(text_task(model=str(home)), 0, CPU, tuned=True)
    judge = text_task(judge=str(folder))  # a causal model, which has no score
    with pytest.raises(UserError, match=r"key 'judge'.*its files lack score\.weight"):
        text_of(judge)


def test_a_model_that_sees_later_tokens_is_refused(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=28, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, is_decoder=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertLMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # initial weights are so small that tokens hardly matter
    model.save_pretrained(tmp_path)
    tokenizer_of(LETTERS).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="its later tokens change"):
        build(text_task(model=str(tmp_path)), 0, CPU, tuned=True)


def test_a_tokenizer_that_does_not_fit_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    GPT2LMHeadModel(
        GPT2Config(vocab_size=9, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    ).save_pretrained(small)
    tokenizer_of(LETTERS).save_pretrained(small)
    said = refused(capsys, tmp_path / "results", f"env.model={small}")
    assert "no model there: its tokenizer has 28 tokens, the model 9" in said
    tokenizer_of(["a", "b", "<unk>", "<end>"]).save_pretrained(small)
    said = refused(capsys, tmp_path / "results", f"env.model={small}")
    assert "lack a word of the words of generated prompts" in said


def test_a_word_that_a_tokenizer_without_an_unknown_token_lacks_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It raises a bare `Exception` then."""
    made = Tokenizer(WordLevel({word: i for i, word in enumerate((*LETTERS[:26], "<end>"))}))
    made.pre_tokenizer = WhitespaceSplit()
    home = tmp_path / "model"
    shutil.copytree(folder, home)
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>").save_pretrained(home)
    file = prompts(tmp_path / "p.jsonl", "a b", "a ö")
    said = refused(capsys, tmp_path / "results", f"env.model={home}", file)
    assert "its tokens lack a word of p.jsonl, line 2" in said


def test_prompts_that_do_not_fit_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, file = tmp_path / "results", tmp_path / "p.jsonl"
    model = f"env.model={folder}"
    said = refused(capsys, results, model, prompts(file, "a", "a b c d e"))
    assert "p.jsonl, line 2: 5 tokens; expected 1 to 4" in said
    said = refused(capsys, results, model, "env.prompt_tokens=60")
    assert "prompt and completion have 68 tokens, its context 64" in said
    assert "it is empty" in refused(capsys, results, prompts(file))
    assert "lacks" not in refused(capsys, results, prompts(file, "a ö"))
    for text in (". a", "a . b"):  # a rule could not judge the words after the full stop
        assert "expected words alone" in refused(capsys, results, prompts(file, "a", text))
    file.write_text('{"prompt": "a\u2028b"}\n\n', encoding="utf-8")  # one line for JSON
    assert text_of(text_task(prompts=str(file))).draw_prompts(np.zeros((1, 4))).tolist() == [
        [-1, -1, 0, 1]
    ]
    said = refused(capsys, results, model, prompts(file, "a \ud800"))
    assert "its tokens lack a word of p.jsonl, line 1" in said
    file.write_text('{"prompt": 1}\n')
    assert "line 1: expected" in refused(capsys, results, f"env.prompts={file}")
    file.unlink()
    assert "cannot be read" in refused(capsys, results, f"env.prompts={file}")


def test_a_run_with_other_prompts_is_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.jsonl"
    change = ("--set", prompts(file, "a b c d"))
    assert run_text(tmp_path / "results", DPO, "language/echo", *change) == 0
    prompts(file, "a b c e")
    assert run_text(tmp_path / "results", DPO, "language/echo", *change) == 2
    assert "holds another run: env.source is" in capsys.readouterr().err


def test_a_person_is_not_asked_about_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "key 'teacher' is human" in refused(capsys, tmp_path / "results", "env.teacher=human")


def test_agents_of_language_models_refuse_other_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from helpers.command_line import run

    assert run(tmp_path / "results", "half_cheetah", f"pebble,{DPO}") == 2
    said = capsys.readouterr().err
    assert "half_cheetah: online_dpo: it aligns a language model; expected a text task" in said
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("agent", [DPO, "random"])
def test_without_transformers_the_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, agent: str
) -> None:
    """Also to an agent without a language model: the text has a tokenizer."""
    for loaded in [name for name in sys.modules if name.startswith("transformers.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, "transformers", None)  # type: ignore[arg-type]
    for name in ("alignment", "model", "text"):
        monkeypatch.delitem(sys.modules, f"mujoco_sail.language.{name}", raising=False)
    assert run_text(tmp_path / "results", agent) == 2
    said = capsys.readouterr().err
    assert "needs the package transformers (" in said
    assert "pip install 'mujoco-sail[language]'" in said
