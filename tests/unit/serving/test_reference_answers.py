"""A fleet held against what PEFT answers from the checkpoint: one that runs other weights shows on its first day."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from adapter_registry.client import Registry
from adapter_registry.domain.errors import InvalidInput, InvalidServing, Unsupported
from adapter_registry.serving.deploying import Deploying
from adapter_registry.serving.fingerprint import Fingerprint, difference
from adapter_registry.serving.fleet_file import read_fleet
from adapter_registry.serving.reference_answers import computed
from adapter_registry.settings import read_settings
from tests import adapter_builders
from tests.unit.serving.builders import llama
from tests.unit.serving.fake_servers import FakeVllm, running

WORDS = ("blue", "red", "green", "The", "three", "primary", "colours", "are")


class Speaking(FakeVllm):
    """A server with a model: what it says is what transformers generates from a folder, with PEFT's adapter."""

    def __init__(self, folder, *, dtype=torch.float32, scale=None):
        super().__init__(key="secret")
        self.folder, self.dtype, self.scale = folder, dtype, scale

    def chosen(self, path):
        model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=self.dtype).eval()
        if path is not None:
            model = PeftModel.from_pretrained(model, path)
        for each in model.modules():
            if isinstance(each, LoraLayer) and self.scale is not None:
                each.scaling = dict.fromkeys(each.scaling, self.scale)
        ids = torch.tensor([[WORDS.index(each) for each in ("The", "three", "primary", "colours", "are")]])
        asked = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
        said = model.generate(input_ids=ids, return_dict_in_generate=True, output_logits=True, **asked)
        logprobs = [float(each[0].float().log_softmax(-1).max()) for each in said.logits]
        return list(zip(said.sequences[0, ids.shape[1] :].tolist(), logprobs, strict=True))


def checkpoint(folder, seed):
    llama(seed, tie_word_embeddings=False).save_pretrained(folder)
    words = Tokenizer(WordLevel({each: number for number, each in enumerate(WORDS)}, unk_token="blue"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="blue").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A base, another one of its shape, and two versions of an adapter of the first."""
    folder = tmp_path_factory.mktemp("answers")
    right, wrong = checkpoint(folder / "right", 0), checkpoint(folder / "wrong", 1)
    settings = {"ADAPTERS_HOME": str(folder / "home"), "ADAPTERS_CACHE": str(folder / "cache")}
    registry = Registry(read_settings(settings))
    registry.add_base("right", right)
    config = {"task_type": "CAUSAL_LM", "r": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    for rank_alpha in (64, 128):
        lora = LoraConfig(**config, lora_alpha=rank_alpha)
        pushed = adapter_builders.adapter(folder / f"alpha{rank_alpha}", right, lora)
        registry.push(pushed, base="right", name="team/sql")
    return SimpleNamespace(right=right, wrong=wrong, registry=registry)


@pytest.fixture
def deploying(made, tmp_path):
    """Deploys to some servers: `deploying(server, server, "a line more")`."""
    with ExitStack() as servers:

        def to(*fleet, more="answers: peft", base=made.right):
            urls = [servers.enter_context(running(each)).url for each in fleet]
            (tmp_path / "key").write_text("secret")
            text = f"stack: vllm\nroot: {tmp_path}/root\nbase: {base}\nkey_file: {tmp_path}/key\n"
            text += f"replicas: [{', '.join(urls)}]\n{more}\n"
            return Deploying(read_fleet(text, "fleet.yaml"), made.registry, clock=lambda: 1.0)

        yield to


def outcomes(lines):
    return [line.outcome for line in lines]


class TestReference:
    def test_servers_that_answer_as_peft_take_it_and_what_peft_said_is_kept(self, deploying, made, tmp_path):
        to = deploying(Speaking(made.right), Speaking(made.right, dtype=torch.bfloat16))
        assert outcomes(to.deploy("team/sql@v1", "sql")) == ["moved", "moved"]
        assert outcomes(to.deploy("team/sql@v2", "sql")) == ["moved", "moved"]
        kept = json.loads((tmp_path / "root/.adapters-deploy.json").read_text())["answers"]
        assert len(kept) == 3
        assert all(key.startswith("peft sha256:") and len(each["seconds"]) == 8 for key, each in kept.items())

    def test_a_fleet_that_runs_other_weights_of_the_same_shape_is_refused_on_its_first_day(self, deploying, made):
        one, two = Speaking(made.wrong), Speaking(made.wrong)
        lines = deploying(one, two).deploy("team/sql@v1", "sql")
        assert outcomes(lines) == ["restored", "untouched"]
        assert "asked the test prompt of its base: it answers the tokens" in lines[0].why
        assert (one.loaded, two.loaded) == ({}, {})
        assert outcomes(deploying(one, two, more="").deploy("team/sql@v1", "sql")) == ["moved", "moved"]

    def test_a_server_that_leaves_the_adapters_scale_out_is_refused(self, deploying, made):
        [line] = deploying(Speaking(made.right, scale=1.0)).deploy("team/sql@v2", "sql")
        assert line.outcome == "restored"
        assert "asked the test prompt of sql: " in line.why

    def test_what_was_answered_first_before_is_no_reference(self, deploying, made):
        one = Speaking(made.wrong)
        assert outcomes(deploying(one, more="").deploy("team/sql@v1", "sql")) == ["moved"]
        one.forget()
        [line] = deploying(one).reconcile()
        assert (line.outcome, one.loaded) == ("restored", {})
        assert "asked the test prompt of its base: " in line.why

    def test_without_torch_it_is_said_what_to_install(self, deploying, made, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        one = Speaking(made.right)
        with pytest.raises(Unsupported, match=r"`answers: peft` needs torch, which is not installed: pip install"):
            deploying(one).deploy("team/sql@v1", "sql")
        assert one.loaded == {}

    def test_a_folder_without_a_tokenizer_is_told(self, deploying, made, tmp_path):
        bare = tmp_path / "bare"
        bare.mkdir()
        for each in made.right.iterdir():
            if not each.name.startswith("tokenizer"):
                (bare / each.name).write_bytes(each.read_bytes())
        with pytest.raises(InvalidInput, match=r"makes no model with a tokenizer of it .* Nothing was moved\."):
            deploying(Speaking(made.right), base=bare).deploy("team/sql@v1", "sql")

    def test_its_base_may_be_named_from_the_home_folder_as_elsewhere(self, monkeypatch, tmp_path):
        (tmp_path / "mistral").mkdir()
        monkeypatch.setenv("HOME", str(tmp_path))
        text = "stack: vllm\nroot: /x\nbase: ~/mistral\nanswers: peft\nreplicas: [http://a]"
        assert read_fleet(text, "fleet.yaml").answers == "peft"

    def test_code_that_a_checkpoint_brings_is_not_run_whatever_is_answered(self, made, tmp_path, monkeypatch):
        brought = tmp_path / "brought"
        brought.mkdir()
        for each in made.right.iterdir():
            (brought / each.name).write_bytes(each.read_bytes())
        config = json.loads((brought / "config.json").read_text())
        config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}}
        (brought / "config.json").write_text(json.dumps(config))
        (brought / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
        monkeypatch.setattr("builtins.input", lambda *_: "y")
        with pytest.raises(InvalidInput, match="transformers makes no model with a tokenizer of it"):
            computed(brought, "team/sql@v1", made.registry, prompt="The three")
        assert not (tmp_path / "ran").exists()

    def test_a_base_that_is_no_folder_is_refused_with_the_document(self, deploying, made):
        with pytest.raises(InvalidServing, match=r"a checkpoint folder with `answers: peft`"):
            deploying(Speaking(made.right), base="right")


class TestCloseSeconds:
    EXPECTED = Fingerprint((1, 2, 3), (-0.5, -0.9, -0.1), ((9, -4.0), (7, -1.0), (8, -5.0)))

    @pytest.mark.parametrize(
        ("found", "told"),
        [
            (Fingerprint((1, 7, 5), (-0.5, -1.05, -9.0)), ""),
            (Fingerprint((1, 7, 5), (-0.5, -1.5, -9.0)), "token 2 has the logarithm -1.5, expected -1.0"),
            (Fingerprint((1, 7, 5), (-0.9, -1.0, -9.0)), "token 1 has"),
            (Fingerprint((1, 6, 5), (-0.5, -1.0, -9.0)), "the tokens"),
            (Fingerprint((9, 2, 3), (-4.0, -0.9, -0.1)), "the tokens"),
            (Fingerprint((1, 2, 8), (-0.5, -0.9, -5.0)), "the tokens"),
        ],
    )
    def test_a_token_that_came_a_close_second_is_right_too(self, found, told):
        said = difference(self.EXPECTED, found, tolerance=0.25)
        assert told in said
        assert bool(told) == bool(said)
