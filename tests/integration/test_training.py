"""The callback with the real Trainer: a version and scores for each checkpoint, locked to what training began from."""

from __future__ import annotations

import errno
import logging
import shutil
import socket
import sys
import time
import warnings
from importlib import import_module
from math import nan
from types import ModuleType, SimpleNamespace

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import IncompatibleBase, InvalidInput, InvalidReference, NotFound, ServerUnreachable
from adapter_registry.settings import read_settings
from adapter_registry.training import PushCheckpoints, adapter_of, locked, scores_of
from tests.adapter_builders import copied


class Fragile(Registry):
    """A registry that does not answer for the first pushes."""

    failing = 0
    error: Exception = ServerUnreachable("the server does not answer.")

    def push(self, *arguments, **options):
        if self.failing:
            self.failing -= 1
            raise self.error
        return super().push(*arguments, **options)


@pytest.fixture(scope="module")
def home(tmp_path_factory, llama_folder):
    """A registry that knows the base."""
    folder = tmp_path_factory.mktemp("training")
    settings = read_settings({"ADAPTERS_HOME": str(folder / "home"), "ADAPTERS_CACHE": str(folder / "cache")})
    Registry(settings).add_base("llama", llama_folder)
    return settings


def lora(model, *names):
    """`model` with fresh LoRAs of these names; the last is active."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"])
    first, *others = names or ("default",)
    bearing = get_peft_model(model, config, adapter_name=first)
    for name in others:
        bearing.add_adapter(name, config)
        bearing.set_adapter(name)
    return bearing


def train(base, out, callback, *, spoil=None, wrap=lora, resume=False, **options):
    """Four steps of a LoRA, evaluated and saved at every second."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    torch.manual_seed(0)
    loaded = AutoModelForCausalLM.from_pretrained(base)
    if spoil:
        spoil(loaded)
    model = wrap(loaded)
    rows = [{"input_ids": torch.arange(6) + i, "labels": torch.arange(6) + i} for i in range(8)]
    settings = {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "max_steps": 4, "learning_rate": 0.1}
    arguments = TrainingArguments(
        str(out), report_to=[], use_cpu=True, per_device_train_batch_size=2, logging_steps=1, **{**settings, **options}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(model, arguments, train_dataset=rows, eval_dataset=rows[:2], callbacks=[callback]).train(
            resume_from_checkpoint=resume
        )


class TestPushCheckpoints:
    def test_each_checkpoint_is_a_version_with_its_scores_and_its_base(self, home, llama_folder, tmp_path):
        registry = Registry(home)
        callback = PushCheckpoints("team/each", labels={"run": "7"}, registry=registry)
        train(llama_folder, tmp_path / "out", callback)
        assert callback.pushed == ["team/each@v1", "team/each@v2"]
        first, second = (registry.resolve(each) for each in callback.pushed)
        assert [version.labels for version in (first, second)] == [
            {"run": "7", "step": str(step), "epoch": f"{step / 4:g}"} for step in (2, 4)
        ]
        assert first.base == second.base == registry.base(str(llama_folder)).base.digest
        assert not [file.path for file in first.files if file.path.endswith((".pt", ".bin", ".pth"))]
        scores = {each.score.metric: each for each in registry.scores("team/each@v2")}
        assert set(scores) == {"heldout/loss"}
        assert str(scores["heldout/loss"].score.direction) == "lower"
        assert "step 4" in scores["heldout/loss"].claimed

    def test_a_model_with_other_weights_than_the_base_does_not_begin_to_train(self, home, llama_folder, tmp_path):
        import torch

        def spoil(model):
            with torch.no_grad():
                model.model.layers[1].mlp.up_proj.weight[0, 0] += 1

        callback = PushCheckpoints("team/spoiled", registry=Registry(home))
        with pytest.raises(IncompatibleBase, match=r"layers\.1\.mlp\.up_proj"):
            train(llama_folder, tmp_path / "out", callback, spoil=spoil)
        assert not list((tmp_path / "out").glob("checkpoint-*"))

    @pytest.mark.parametrize(
        ("name", "labels", "told"),
        [
            ("team/sql lora", {}, "'sql lora' is not an adapter name"),
            ("team/sql", {"Run!": "7"}, "'Run!' is not a label key"),
            ("team/sql", {"run": "7\n"}, "run"),
        ],
    )
    def test_what_no_version_can_be_called_is_told_before_training(
        self, home, llama_folder, tmp_path, name, labels, told
    ):
        callback = PushCheckpoints(name, base="llama", labels=labels, registry=Registry(home))
        with pytest.raises(InvalidReference, match=told):
            train(llama_folder, tmp_path / "out", callback)
        assert not list((tmp_path / "out").glob("checkpoint-*"))

    def test_a_base_that_is_not_registered_is_told_before_training(self, home, llama_folder, tmp_path):
        other = copied(llama_folder, tmp_path / "other")
        empty = read_settings({"ADAPTERS_HOME": str(tmp_path / "home"), "ADAPTERS_CACHE": str(tmp_path / "cache")})
        with pytest.raises(NotFound, match="adapters base add"):
            train(other, tmp_path / "out", PushCheckpoints("team/none", registry=Registry(empty)))

    def test_a_training_that_goes_on_pushes_what_comes_after_and_tags_the_best(self, home, llama_folder, tmp_path):
        registry = Registry(home)
        train(llama_folder, tmp_path / "out", PushCheckpoints("team/on", registry=registry), max_steps=2)
        again = PushCheckpoints("team/on", registry=registry)
        train(llama_folder, tmp_path / "out", again, resume=True, metric_for_best_model="loss")
        assert again.pushed == ["team/on@v2"]
        assert [version.labels["step"] for version in registry.versions("team/on")] == ["4", "2"]
        losses = [registry.scores(f"team/on@v{number}")[0].score.value for number in (1, 2)]
        assert losses[1] < losses[0]
        assert registry.resolve("team/on@best").number == 2

    def test_a_training_that_goes_on_pushes_what_it_goes_on_from_if_the_process_before_could_not(
        self, home, llama_folder, tmp_path
    ):
        registry = Fragile(home)
        registry.failing = 9
        train(llama_folder, tmp_path / "out", PushCheckpoints("team/killed", registry=registry), max_steps=2)
        again = PushCheckpoints("team/killed", registry=Registry(home))
        train(llama_folder, tmp_path / "out", again, resume=True)
        assert again.pushed == ["team/killed@v1", "team/killed@v2"]
        assert [version.labels["step"] for version in again.registry.versions("team/killed")] == ["4", "2"]
        assert again.registry.scores("team/killed@v1")

    def test_the_best_checkpoint_is_tagged_though_an_earlier_process_pushed_it(self, home, llama_folder, tmp_path):
        registry, rate = Registry(home), {"metric_for_best_model": "loss", "learning_rate": 0.1}
        train(llama_folder, tmp_path / "out", PushCheckpoints("team/early", registry=registry), max_steps=4, **rate)
        again, worse = PushCheckpoints("team/early", registry=registry), {**rate, "learning_rate": 0.0}
        losses = [registry.scores(f"team/early@v{number}")[0].score.value for number in (1, 2)]
        train(llama_folder, tmp_path / "out", again, resume=True, max_steps=8, **worse)
        assert registry.resolve("team/early@best").labels["step"] == str((2, 4)[losses.index(min(losses))])

    @pytest.mark.parametrize("names", [("policy",), ("default", "policy")])
    def test_of_several_adapters_the_one_that_is_trained_is_pushed(self, home, llama_folder, tmp_path, names):
        registry, name = Registry(home), f"team/{'-'.join(names)}"
        callback = PushCheckpoints(name, registry=registry)
        train(llama_folder, tmp_path / "out", callback, wrap=lambda model: lora(model, *names))
        assert callback.pushed == [f"{name}@v1", f"{name}@v2"]
        assert {file.path for file in registry.resolve(f"{name}@v2").files} == {
            "adapter_config.json",
            "adapter_model.safetensors",
        }

    @pytest.mark.parametrize(
        ("wrap", "adapter", "told"),
        [
            (lambda model: model, None, "the model bears no adapter"),
            (lora, "policy", "bears the adapters default, and it bears no 'policy'"),
        ],
    )
    def test_a_model_without_the_adapter_does_not_begin_to_train(
        self, home, llama_folder, tmp_path, wrap, adapter, told
    ):
        callback = PushCheckpoints("team/without", registry=Registry(home), adapter=adapter)
        with pytest.raises(InvalidInput, match=told):
            train(llama_folder, tmp_path / "out", callback, wrap=wrap)
        assert not list((tmp_path / "out").glob("checkpoint-*"))

    def test_several_active_adapters_do_not_tell_which_to_push(self):
        model = SimpleNamespace(peft_config={"a": 1, "b": 2}, active_adapters=["a", "b"])
        with pytest.raises(InvalidInput, match=r"2 are active, a, b: .* adapter=\.\.\."):
            adapter_of(model)
        assert adapter_of(model, "b") == "b"

    def test_an_embedding_with_rows_for_added_tokens_is_of_the_base_still(self, home, llama_folder, tmp_path):
        def grow(model):
            model.resize_token_embeddings(model.config.vocab_size + 3)

        registry = Registry(home)
        callback = PushCheckpoints("team/grown", registry=registry)
        train(llama_folder, tmp_path / "out", callback, spoil=grow)
        assert registry.resolve("team/grown@v1").description.vocab_resized

    def test_a_checkpoint_that_the_registry_refuses_is_told_once(self, home, llama_folder, tmp_path, caplog):
        def diverged(model):
            bearing = lora(model)
            bearing.get_submodule("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default").weight.data[0] = (
                nan
            )
            return bearing

        callback = PushCheckpoints("team/diverged", registry=Registry(home))
        train(llama_folder, tmp_path / "out", callback, wrap=diverged)
        for step in (2, 4):
            assert caplog.text.count(f"step {step} is not pushed, now or later: refused") == 1
        assert "for now" not in caplog.text

    def test_a_registry_that_is_down_stops_nothing_and_gets_it_all_later(self, home, llama_folder, tmp_path, caplog):
        registry = Fragile(home)
        registry.failing = 1
        callback = PushCheckpoints("team/later", registry=registry)
        train(llama_folder, tmp_path / "out", callback)
        assert callback.pushed == ["team/later@v1", "team/later@v2"]
        assert registry.resolve("team/later@v1").labels["step"] == "2"
        assert "step 2 is not pushed for now: the server does not answer." in caplog.text


class TestFromTheHubsCache:
    """Weights that were narrowed or quantised in memory prove nothing; the files in the cache do."""

    @pytest.fixture
    def cached(self, tmp_path, monkeypatch):
        """Puts folders into a Hub cache, as the commits of one repository."""
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        snapshots = tmp_path / "hub" / "models--org--llama" / "snapshots"
        snapshots.mkdir(parents=True)

        def place(*folders):
            for number, folder in enumerate(folders):
                shutil.copytree(folder, snapshots / (f"{number}" * 40))
            return snapshots

        return place

    def narrowed(self, folder):
        """A model that says that it is from the Hub, in a dtype that proves nothing."""
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        model.config._name_or_path = "org/llama"
        return model

    @pytest.fixture
    def other(self, llama_folder, tmp_path):
        """Another checkpoint of the same shapes."""
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(llama_folder)
        model.model.norm.weight.data += 1
        model.save_pretrained(tmp_path / "other")
        return tmp_path / "other"

    def test_they_prove_the_base_that_nobody_named(self, home, llama_folder, cached, caplog):
        cached(llama_folder)
        caplog.set_level(logging.INFO)
        assert locked(Registry(home), self.narrowed(llama_folder), None).startswith("llama@sha256:")
        assert f"{'0' * 40}, were read instead of its live weights" in caplog.text

    def test_other_weights_in_the_cache_are_refused(self, home, other, cached):
        cached(other)
        with pytest.raises(IncompatibleBase, match=r"tensors with equal bytes.*(.|\n)*were read instead"):
            locked(Registry(home), self.narrowed(other), "llama")

    def test_where_only_one_of_two_commits_fits_nothing_is_proved(self, home, llama_folder, other, cached, caplog):
        snapshots = cached(llama_folder, other)
        model = self.narrowed(llama_folder)
        assert locked(Registry(home), model, "llama")
        assert "is not proved: float32 weights are held as bfloat16" in caplog.text
        assert f"org/llama is cached at 2 commits, of which only {'0' * 40} fits" in caplog.text
        # What transformers told of the commit until its version 5 decides.
        model.config._commit_hash = "1" * 40
        with pytest.raises(IncompatibleBase):
            locked(Registry(home), model, "llama")
        shutil.rmtree(snapshots / ("1" * 40))
        model.config._commit_hash = None
        caplog.clear()
        assert locked(Registry(home), model, "llama")
        assert not caplog.text

    def test_a_cache_without_its_weights_proves_nothing(self, home, llama_folder, cached, caplog):
        [weights] = cached(llama_folder).glob("*/*.safetensors")
        weights.write_bytes(b"half")
        assert locked(Registry(home), self.narrowed(llama_folder), "llama")
        assert "whose files are not on this machine" in caplog.text

    def test_a_base_that_is_not_registered_is_told_with_where_it_may_be_had(self, home, llama_folder, tmp_path, cached):
        cached()
        with pytest.raises(NotFound, match="adapters base add NAME hf://org/llama@<commit>"):
            locked(Registry(home), self.narrowed(llama_folder), None)
        with pytest.raises(NotFound, match="adapters base add none hf://org/llama@<commit>"):
            locked(Registry(home), self.narrowed(llama_folder), "none")


class TestWithoutTraining:
    """What only needs the events, not a Trainer."""

    STATE = SimpleNamespace(is_world_process_zero=True, global_step=2, epoch=1.0, log_history=[], best_global_step=None)

    def test_a_checkpoint_that_was_removed_meanwhile_is_told(self, home, tmp_path, caplog):
        registry = Fragile(home)
        registry.failing = 9
        callback = PushCheckpoints("team/gone", registry=registry, _locked="llama")
        arguments = SimpleNamespace(output_dir=tmp_path)
        (tmp_path / "checkpoint-2").mkdir()
        callback.on_save(arguments, self.STATE, None)
        shutil.rmtree(tmp_path / "checkpoint-2")
        callback.on_train_end(arguments, self.STATE, None)
        assert "step 2 was not pushed: the Trainer removed" in caplog.text

    def test_a_disk_that_fails_stops_nothing_and_is_tried_again(self, home, tmp_path, caplog):
        registry = Fragile(home)
        registry.failing, registry.error = 1, OSError(errno.EIO, "Input/output error")
        callback = PushCheckpoints("team/disk", registry=registry, _locked="llama")
        (tmp_path / "checkpoint-2").mkdir()
        callback.on_save(SimpleNamespace(output_dir=tmp_path), self.STATE, None)
        assert "step 2 is not pushed for now: [Errno 5] Input/output error" in caplog.text
        callback.on_train_end(SimpleNamespace(output_dir=tmp_path), self.STATE, None)
        assert "step 2 is not pushed, now or later: refused, 2 problems" in caplog.text

    def test_a_registry_that_fails_is_not_asked_again_for_each_checkpoint_that_waits(self, home, tmp_path, caplog):
        registry = Fragile(home)
        registry.failing = 99
        callback = PushCheckpoints("team/down", registry=registry, _locked="llama")
        for step in (2, 4, 6):
            (tmp_path / f"checkpoint-{step}").mkdir()
            state = SimpleNamespace(**{**vars(self.STATE), "global_step": step})
            callback.on_save(SimpleNamespace(output_dir=tmp_path), state, None)
        assert registry.failing == 96
        assert caplog.text.count("step 2 is not pushed for now") == 3
        assert "step 4" not in caplog.text

    def test_a_server_that_is_silent_costs_seconds(self, tmp_path, caplog, monkeypatch):
        monkeypatch.setattr("adapter_registry.training.PATIENCE_SECONDS", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            registry = Registry(read_settings({"ADAPTERS_URL": url, "ADAPTERS_HOME": str(tmp_path / "home")}))
            callback = PushCheckpoints("team/silent", registry=registry, _locked="llama")
            (tmp_path / "checkpoint-2").mkdir()
            began = time.monotonic()
            callback.on_save(SimpleNamespace(output_dir=tmp_path), self.STATE, None)
        assert time.monotonic() - began < 5
        assert f"step 2 is not pushed for now: the server at {url} does not answer (timed out)" in caplog.text

    def test_a_best_checkpoint_that_was_not_pushed_is_told(self, home, tmp_path, caplog):
        callback = PushCheckpoints("team/best", registry=Registry(home), _locked="llama")
        state = SimpleNamespace(**{**vars(self.STATE), "best_global_step": 2})
        callback.on_train_end(SimpleNamespace(output_dir=tmp_path), state, None)
        assert "step 2 is best and was not pushed: nothing was tagged best" in caplog.text

    def test_what_is_left_at_the_end_is_told_with_the_command_that_pushes_it(self, home, tmp_path, caplog):
        registry = Fragile(home)
        registry.failing = 9
        callback = PushCheckpoints("team/left", registry=registry, _locked="llama@sha256:1")
        (tmp_path / "checkpoint-2").mkdir()
        with caplog.at_level(logging.ERROR):
            callback.on_save(SimpleNamespace(output_dir=tmp_path), self.STATE, None)
            callback.on_train_end(SimpleNamespace(output_dir=tmp_path), self.STATE, None)
        assert f"adapters push {tmp_path}/checkpoint-2 --base llama@sha256:1 --name team/left" in caplog.text

    def test_only_one_process_of_several_pushes(self, tmp_path):
        callback, state = PushCheckpoints("team/x"), SimpleNamespace(is_world_process_zero=False)
        for event in (callback.on_train_begin, callback.on_save, callback.on_train_end):
            event(SimpleNamespace(output_dir=tmp_path), state, None)
        assert callback.registry is None

    def test_other_events_do_nothing_and_other_attributes_are_not_there(self):
        callback = PushCheckpoints("team/x")
        assert callback.on_step_end(None, None, None, model=None) is None
        with pytest.raises(AttributeError):
            _ = callback.of_no_event

    def test_metrics_are_scores_and_speeds_are_not(self):
        history = [
            {"step": 2, "loss": 1.0, "learning_rate": 0.1},
            {"step": 2, "eval_loss": 0.5, "eval_runtime": 1.0, "eval_samples_per_second": 3.0, "eval_accuracy": 0.75},
            {"step": 2, "eval_num_tokens": 1_024.0},
            {"step": 2, "eval_" + "x" * 300: 1.0, "eval_a\nb": 1.0, "eval_huge": 10**400, "eval_endless": float("inf")},
            {"step": 4, "eval_loss": 0.4},
        ]
        found = {score.metric: (score.value, str(score.direction)) for score in scores_of(history, step=2)}
        assert found == {"heldout/loss": (0.5, "lower"), "heldout/accuracy": (0.75, "higher")}


class TestAxolotl:
    """The plugin; Axolotl itself is not here."""

    @pytest.fixture
    def plugin(self, monkeypatch):
        base = ModuleType("axolotl.integrations.base")
        base.BasePlugin = object
        for name in ("axolotl", "axolotl.integrations"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, base.__name__, base)
        monkeypatch.delitem(sys.modules, "adapter_registry.axolotl", raising=False)
        yield import_module("adapter_registry.axolotl")
        sys.modules.pop("adapter_registry.axolotl", None)

    def test_the_callback_is_made_of_the_configuration(self, plugin):
        [callback] = plugin.RegistryPlugin().add_callbacks_pre_trainer(
            {"adapter_name": "team/sql", "adapter_base": "llama", "adapter_labels": {"run": "7"}}, None
        )
        assert (callback.name, callback.base, callback.labels) == ("team/sql", "llama", {"run": "7"})
        [callback] = plugin.RegistryPlugin().add_callbacks_pre_trainer({"adapter_name": "team/sql"}, None)
        assert (callback.name, callback.base, callback.labels) == ("team/sql", None, {})

    def test_axolotl_finds_the_fields_by_name(self, plugin):
        module, _, name = plugin.RegistryPlugin().get_input_args().rpartition(".")
        assert set(getattr(import_module(module), name).model_fields) == {
            "adapter_name",
            "adapter_base",
            "adapter_labels",
        }
