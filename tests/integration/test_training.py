"""The callback with the real Trainer: a version and scores for each checkpoint, locked to what training began from."""

from __future__ import annotations

import logging
import shutil
import warnings
from types import SimpleNamespace

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import IncompatibleBase, InvalidReference, NotFound, ServerUnreachable
from adapter_registry.settings import read_settings
from adapter_registry.training import PushCheckpoints, scores_of
from tests.adapter_builders import copied


class Fragile(Registry):
    """A registry that does not answer for the first pushes."""

    failing = 0

    def push(self, *arguments, **options):
        if self.failing:
            self.failing -= 1
            raise ServerUnreachable("the server does not answer.")
        return super().push(*arguments, **options)


@pytest.fixture(scope="module")
def home(tmp_path_factory, llama_folder):
    """A registry that knows the base."""
    folder = tmp_path_factory.mktemp("training")
    settings = read_settings({"ADAPTERS_HOME": str(folder / "home"), "ADAPTERS_CACHE": str(folder / "cache")})
    Registry(settings).add_base("llama", llama_folder)
    return settings


def train(base, out, callback, *, spoil=None, resume=False, **options):
    """Four steps of a LoRA, evaluated and saved at every second."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    torch.manual_seed(0)
    loaded = AutoModelForCausalLM.from_pretrained(base)
    if spoil:
        spoil(loaded)
    model = get_peft_model(loaded, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"]))
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

    def test_a_registry_that_is_down_stops_nothing_and_gets_it_all_later(self, home, llama_folder, tmp_path, caplog):
        registry = Fragile(home)
        registry.failing = 1
        callback = PushCheckpoints("team/later", registry=registry)
        train(llama_folder, tmp_path / "out", callback)
        assert callback.pushed == ["team/later@v1", "team/later@v2"]
        assert registry.resolve("team/later@v1").labels["step"] == "2"
        assert "step 2 is not pushed for now: the server does not answer." in caplog.text


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

    def test_a_disk_that_fails_stops_nothing(self, home, tmp_path, caplog):
        callback = PushCheckpoints("team/disk", registry=Registry(home), _locked="llama")
        (tmp_path / "checkpoint-2").mkdir()
        (tmp_path / "checkpoint-2" / "adapter_config.json").mkdir()
        callback.on_save(SimpleNamespace(output_dir=tmp_path), self.STATE, None)
        assert "step 2 is not pushed for now" in caplog.text

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
