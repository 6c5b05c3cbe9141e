"""Two adapters' folders compared: config, files, tensors, and the delta of every module."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.domain.diff import State
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.peft.changes import config_changes
from adapter_registry.tensors.against_base import COMPARED, against, similarities_of
from adapter_registry.tensors.diff import Input, diff
from adapter_registry.tensors.layers import Pair
from adapter_registry.tensors.picture import picture
from tests.adapter_builders import adapter, changed_config, changed_tensors, copied, llama
from tests.unit.tensors.test_layers import gpt2, mixtral

MODULES = ["q_proj", "v_proj", "down_proj"]


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory) -> Path:
    return llama(tmp_path_factory.mktemp("diff") / "base")


@pytest.fixture(scope="module")
def base(base_folder):
    return read_base(base_folder, cache=None, progress=lambda _: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, base_folder) -> Path:
    return lora(tmp_path_factory.mktemp("diff") / "lora", base_folder)


def lora(folder: Path, base_folder: Path, **options) -> Path:
    from peft import LoraConfig

    given = {"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": MODULES, **options}
    return adapter(folder, base_folder, LoraConfig(**given))


@pytest.fixture
def compare(base, trained, tmp_path):
    """Compares the trained adapter with what `change` makes of a copy."""

    def compared(change, **options):
        other = copied(trained, tmp_path / "other")
        change(other)
        return diff(Input("a", None, trained, base, "base"), Input("b", None, other, base, "base"), **options)

    return compared


def times(factor: float, part: str):
    def change(tensors):
        for name in tensors:
            if part in name:
                tensors[name] = tensors[name] * factor

    return lambda folder: changed_tensors(folder, change)


def test_replicated_layers_are_compared_one_by_one_each_with_the_weight_that_they_share(tmp_path, base, base_folder):
    one = lora(tmp_path / "one", base_folder, target_modules=["q_proj"], layer_replication=[[0, 2], [1, 2]])
    other = copied(one, tmp_path / "other")
    changed_tensors(other, lambda tensors: [t.mul_(3) for n, t in tensors.items() if "layers.2" in n and "lora_B" in n])
    sides = Input("a", None, one, base, "base"), Input("b", None, other, base, "base")
    with against(base_folder, cache=None, intruders=False) as finish:
        found = {module.name: module for module in diff(*sides, finish=finish).modules}
    first, second, third = (found[f"model.layers.{layer}.self_attn.q_proj"] for layer in range(3))
    assert (first.state, second.state, third.state) == (State.SAME, State.SAME, State.CHANGED)
    assert third.relative == pytest.approx(2)
    # Both are held against the one weight that they share.
    assert second.first_base.relative / second.norms[0] == pytest.approx(third.first_base.relative / third.norms[0])


class TestVerdict:
    def test_equal_files_are_identical(self, compare):
        found = compare(lambda _: None)
        assert (found.verdict, found.relative) == ("identical", 0)
        assert {module.state for module in found.modules} == {State.SAME}

    def test_equal_weights_in_other_bytes_are_the_same_delta(self, compare):
        found = compare(lambda folder: changed_config(folder, lora_dropout=0.3))
        assert found.verdict == "same-delta"
        assert "adapter_config.json" in found.summary

    def test_factors_that_share_their_size_otherwise_are_the_same_delta(self, compare):
        def change(folder):
            times(4, "lora_A")(folder)
            times(0.25, "lora_B")(folder)

        found = compare(change)
        assert found.verdict == "same-delta"
        assert found.relative == pytest.approx(0, abs=1e-12)
        assert "other factors" in found.summary

    def test_a_changed_scale_changes_every_delta(self, compare):
        found = compare(lambda folder: changed_config(folder, lora_alpha=12))
        assert found.verdict == "changed"
        assert found.relative == pytest.approx(0.5)
        assert all(module.relative == pytest.approx(0.5) for module in found.modules)
        assert all(module.scale == (2, 3) for module in found.modules)

    def test_one_changed_module_is_told(self, compare):
        found = compare(times(2, "layers.1.self_attn.q_proj.lora_B"))
        [changed] = [module for module in found.modules if module.state is not State.SAME]
        assert (changed.name, changed.layer, changed.kind) == ("model.layers.1.self_attn.q_proj", 1, "q_proj")
        assert "1 of 6 modules" in found.summary
        assert {group.name: group.changed for group in found.kinds} == {"down_proj": 0, "q_proj": 1, "v_proj": 0}
        assert {group.name: group.energy for group in found.layers} == {"0": 0, "1": pytest.approx(1)}

    def test_other_bases_are_told_first(self, base, trained, tmp_path):
        folder = llama(tmp_path / "elsewhere", seed=7)
        elsewhere = read_base(folder, cache=None, progress=lambda _: None)
        found = diff(Input("a", None, trained, base, "one"), Input("b", None, trained, elsewhere, "two"))
        assert "locked to different bases, one and two" in found.notes[0]
        assert found.first.base_digest != found.second.base_digest


class TestModules:
    def test_other_ranks_targets_and_scalings_are_compared_by_delta(self, base, base_folder, trained, tmp_path):
        other = lora(tmp_path / "x", base_folder, r=2, use_rslora=True, target_modules=["q_proj", "o_proj"])
        found = diff(Input("a", None, trained, base, "base"), Input("b", None, other, base, "base"))
        states = {module.kind: module.state for module in found.modules}
        assert states == {
            "q_proj": State.CHANGED,
            "o_proj": State.ADDED,
            "v_proj": State.REMOVED,
            "down_proj": State.REMOVED,
        }
        q = next(module for module in found.modules if module.kind == "q_proj")
        assert q.rank == (4, 2)
        assert q.scale == (2, pytest.approx(8 / 2**0.5))

    def test_every_delta_is_pefts(self, base, base_folder, trained, tmp_path):
        import transformers
        from peft import PeftModel

        other = lora(tmp_path / "x", base_folder, r=2, lora_alpha=3)
        changed_tensors(other, lambda tensors: [tensors.update({name: tensors[name] + 0.01}) for name in list(tensors)])
        found = diff(Input("a", None, trained, base, "base"), Input("b", None, other, base, "base"))
        model = PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base_folder), trained, "a")
        model.load_adapter(other, "b")
        for module in found.modules:
            layer = model.get_submodule(f"base_model.model.{module.name}")
            one, two = (layer.get_delta_weight(name).detach().double().numpy() for name in ("a", "b"))
            wanted = [np.linalg.norm(each) for each in (one, two, two - one)]
            assert module.norms == pytest.approx(wanted, rel=1e-5)
            assert module.cosine == pytest.approx((one * two).sum() / wanted[0] / wanted[1], abs=1e-6)

    def test_dora_is_its_direction_without_the_base_and_exact_with_it(self, base, base_folder, tmp_path):
        import transformers
        from peft import PeftModel

        first = lora(tmp_path / "x", base_folder, use_dora=True)
        second = copied(first, tmp_path / "y")
        times(1.5, "lora_magnitude_vector")(second)
        sides = Input("a", None, first, base, "base"), Input("b", None, second, base, "base")
        blind = diff(*sides)
        assert {module.state for module in blind.modules} == {State.CHANGED}
        assert all("direction only" in module.note for module in blind.modules)
        assert any("DoRA" in note for note in blind.notes)
        with against(base_folder, cache=None, intruders=False) as finish:
            found = diff(*sides, finish=finish)
        merged = []
        for folder in (first, second):
            plain = transformers.AutoModelForCausalLM.from_pretrained(base_folder)
            merged.append(PeftModel.from_pretrained(plain, folder).merge_and_unload().state_dict())
        plain = transformers.AutoModelForCausalLM.from_pretrained(base_folder).state_dict()
        for module in found.modules:
            name = f"{module.name}.weight"
            one, two = ((each[name] - plain[name]).double().numpy() for each in merged)
            wanted = [np.linalg.norm(each) for each in (one, two, two - one)]
            assert module.norms == pytest.approx(wanted, rel=1e-4)
            assert module.first_base.relative == pytest.approx(wanted[0] / float(plain[name].norm()), rel=1e-4)

    @pytest.mark.parametrize(
        ("method", "options"),
        [
            ("AdaLora", {"init_r": 4, "target_r": 2, "total_step": 10, "lora_alpha": 6}),
            ("Vera", {"r": 6}),
            ("LoHa", {"r": 3, "alpha": 5}),
            ("LoKr", {"r": 2, "alpha": 5}),
            ("LoKr", {"r": 2, "alpha": 5, "decompose_both": True, "decompose_factor": 4}),
        ],
    )
    def test_deltas_of_other_methods_are_pefts(self, base, base_folder, tmp_path, method, options):
        import peft
        import transformers

        config = getattr(peft, f"{method}Config")
        made = config(task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"], **options)
        first = adapter(tmp_path / "x", base_folder, made)
        second = copied(first, tmp_path / "y")
        changed_tensors(second, lambda tensors: [tensors.update({name: tensors[name] * 1.1}) for name in list(tensors)])
        found = diff(Input("a", None, first, base, "base"), Input("b", None, second, base, "base"))
        assert len(found.modules) == 4
        assert "other tensor" not in found.summary
        deltas = []
        for folder in (first, second):
            plain = transformers.AutoModelForCausalLM.from_pretrained(base_folder)
            model = peft.PeftModel.from_pretrained(plain, folder)
            layers = {m.name: model.get_submodule(f"base_model.model.{m.name}") for m in found.modules}
            deltas.append({n: layer.get_delta_weight("default").detach().double() for n, layer in layers.items()})
        for module in found.modules:
            one, two = (each[module.name].numpy() for each in deltas)
            wanted = [np.linalg.norm(each) for each in (one, two, two - one)]
            assert module.norms == pytest.approx(wanted, rel=1e-4)

    def test_a_method_whose_delta_is_not_known_is_named(self, base, base_folder, tmp_path):
        from peft import OFTConfig

        config = OFTConfig(task_type="CAUSAL_LM", oft_block_size=4, target_modules=["q_proj"])
        folder = adapter(tmp_path / "x", base_folder, config)
        other = copied(folder, tmp_path / "y")
        times(2, "layers.0")(other)
        found = diff(Input("a", None, folder, base, "base"), Input("b", None, other, base, "base"))
        assert found.modules == ()
        assert any("OFT" in note for note in found.notes)
        changed = [each for each in found.tensors if each.state is State.CHANGED]
        assert changed
        assert all(each.relative == pytest.approx(1) for each in changed)

    def test_a_side_without_factors_leaves_nothing_added_or_removed(self, base, base_folder, trained, tmp_path):
        from peft import OFTConfig

        config = OFTConfig(task_type="CAUSAL_LM", oft_block_size=4, target_modules=["q_proj"])
        other = adapter(tmp_path / "x", base_folder, config)
        found = diff(Input("a", None, trained, base, "base"), Input("b", None, other, base, "base"))
        assert (found.verdict, found.modules) == ("changed", ())
        assert found.summary.startswith("changed: ")

    def test_whole_parameters_beside_another_method_do_not_hide_its_deltas(self, base, base_folder, tmp_path):
        from peft import LoHaConfig

        config = LoHaConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
        first = adapter(tmp_path / "x", base_folder, config)
        key = "base_model.model.model.norm.weight"
        changed_tensors(first, lambda tensors: tensors.update({key: next(iter(tensors.values()))[0].clone()}))
        second = copied(first, tmp_path / "y")
        times(2, key)(second)
        found = diff(Input("a", None, first, base, "base"), Input("b", None, second, base, "base"))
        assert [module.state for module in found.modules] == [State.SAME] * 2
        assert "1 other tensor" in found.summary

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_factors_that_are_no_numbers_are_refused(self, compare, value):
        with pytest.raises(InvalidInput, match="NaN or infinity"):
            compare(times(value, "layers.1.self_attn.q_proj.lora_B"))

    def test_a_config_that_is_nonsense_is_refused(self, base, base_folder, tmp_path):
        from peft import LoHaConfig

        config = LoHaConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
        folder = adapter(tmp_path / "x", base_folder, config)
        changed_config(folder, alpha="much")
        side = Input("a", None, folder, base, "base")
        with pytest.raises(InvalidInput, match="much"):
            diff(side, side)

    def test_whole_parameters_are_compared_by_value(self, base, base_folder, tmp_path):
        first = lora(tmp_path / "x", base_folder, modules_to_save=["lm_head"])
        second = copied(first, tmp_path / "y")
        times(1.25, "lm_head")(second)
        found = diff(Input("a", None, first, base, "base"), Input("b", None, second, base, "base"))
        [head] = [each for each in found.tensors if each.state is State.CHANGED]
        assert head.relative == pytest.approx(0.25, rel=1e-6)
        assert "1 other tensor" in found.summary


LORA = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj", "v_proj"]}


class TestConfig:
    @pytest.mark.parametrize(
        "change",
        [
            {"target_modules": ["v_proj", "q_proj"]},
            {"use_dora": False},
            {"use_rslora": None},
            {"rank_pattern": {}},
            {"lora_alpha": 8, "lora_dropout": 0.0, "bias": "none"},
            {"modules_to_save": []},
            {"megatron_core": "megatron.core", "loftq_config": {}, "eva_config": None},
            {"runtime_config": {"ephemeral_gpu_offload": False}},
        ],
    )
    def test_what_says_the_same_is_no_change(self, change):
        assert config_changes(LORA, {**LORA, **change}) == ()

    def test_a_default_that_was_left_out_is_told_by_its_value(self):
        [found] = config_changes({"peft_type": "LORA"}, {"peft_type": "LORA", "r": 16})
        assert (found.field, found.first, found.second, found.matters) == ("r", "8", "16", "weights")

    def test_what_matters_most_comes_first(self):
        other = {**LORA, "peft_version": "0.21", "lora_dropout": 0.1, "lora_alpha": 32}
        assert [each.matters for each in config_changes(LORA, other)] == ["weights", "training", "record"]

    def test_other_words_for_the_same_modules_are_told_as_such(self, compare):
        found = compare(lambda folder: changed_config(folder, target_modules=r".*\.(q_proj|v_proj|down_proj)"))
        [field] = found.config
        assert (field.matters, field.note) == ("record", "other words for the same modules")
        assert found.verdict == "same-delta"


class TestAgainstTheBase:
    def test_strong_new_directions_intrude_and_weak_ones_do_not(self):
        numbers = np.random.default_rng(0)
        matrix = numbers.standard_normal((200, 150)).astype(np.float32)
        u, s, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
        right = v[:COMPARED].T.astype(np.float32)
        for strength, intruders in ((0.0, 0), (0.1, 0), (4.0, 3)):
            up = np.linalg.qr(numbers.standard_normal((200, 3)))[0] * strength * s[0]
            down = np.linalg.qr(numbers.standard_normal((150, 3)))[0].T
            found = similarities_of(matrix, Pair(up.astype(np.float32), down.astype(np.float32), 1.0), right)
            true = np.linalg.svd(matrix + up @ down)[0][:, :10]
            assert found == pytest.approx(np.abs(u[:, :COMPARED].T @ true).max(axis=0), abs=0.05)
            assert np.count_nonzero(found < 0.5) == intruders

    def test_size_is_beside_the_weight_and_vectors_are_kept(self, base, base_folder, trained, tmp_path):
        side = Input("a", None, trained, base, "base")
        answers = []
        for _ in range(2):
            with against(base_folder, cache=tmp_path / "kept", intruders=True) as finish:
                answers.append(diff(side, side, finish=finish))
        assert len(list((tmp_path / "kept").iterdir())) == 6
        from safetensors.numpy import load_file

        weights = load_file(base_folder / "model.safetensors")
        for before, after in zip(answers[0].modules, answers[1].modules, strict=True):
            size = np.linalg.norm(weights[f"{before.name}.weight"])
            assert before.first_base.relative == pytest.approx(before.norms[0] / size, rel=1e-5)
            assert before.first_base.similarities == pytest.approx(after.first_base.similarities, abs=0.01)
            assert before.first_base == before.second_base

    def test_weights_stored_the_other_way_round_are_held_against_as_they_are(self, tmp_path):
        from peft import LoraConfig
        from safetensors.numpy import load_file

        folder = gpt2(tmp_path / "base")
        config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"], fan_in_fan_out=True)
        lora_folder = adapter(tmp_path / "lora", folder, config)
        side = Input("a", None, lora_folder, read_base(folder, cache=None, progress=lambda _: None), "gpt2")
        with against(folder, cache=None, intruders=True) as finish:
            found = diff(side, side, finish=finish)
        weights = load_file(folder / "model.safetensors")
        for module in found.modules:
            weight = weights[f"{module.name}.weight"]
            assert module.shape == weight.shape == (16, 48)
            assert module.first_base.relative == pytest.approx(module.norms[0] / np.linalg.norm(weight), rel=1e-5)
            assert len(module.first_base.similarities) == 10

    def test_each_expert_is_a_matrix_of_its_own(self, tmp_path):
        from peft import LoraConfig

        folder = mixtral(tmp_path / "base")
        config = LoraConfig(
            task_type="CAUSAL_LM", r=2, target_modules=[], target_parameters=["experts.down_proj"], lora_dropout=0
        )
        lora_folder = adapter(tmp_path / "lora", folder, config)
        side = Input("a", None, lora_folder, read_base(folder, cache=None, progress=lambda _: None), "mixtral")
        with against(folder, cache=None, intruders=False) as finish:
            found = diff(side, side, finish=finish)
        assert [module.name[-3:] for module in found.modules] == ["[0]", "[1]", "[2]"]
        assert {module.kind for module in found.modules} == {"down_proj"}
        assert all("several tensors" in module.note for module in found.modules)
        drawn = ET.fromstring(picture(found))
        assert sum(1 for each in drawn.iter() if each.get("data-module")) == 3


class TestPicture:
    SVG = "{http://www.w3.org/2000/svg}"

    def test_it_parses_and_has_one_cell_for_each_module(self, compare):
        found = compare(times(2, "layers.1"))
        root = ET.fromstring(picture(found))
        cells = [each.get("data-module") for each in root.iter(f"{self.SVG}g") if each.get("data-module")]
        assert sorted(cells) == sorted(module.name for module in found.modules)
        assert root.tag == f"{self.SVG}svg"

    def test_it_needs_nothing_else_and_says_what_it_shows(self, compare):
        drawn = picture(compare(times(2, "layers.1")))
        assert not re.search(r"(href|src)=|url\(|@import|<script", drawn)
        assert "prefers-color-scheme: dark" in drawn
        texts = {each.text for each in ET.fromstring(drawn).iter(f"{self.SVG}text")}
        assert {*MODULES, "0", "1", "layer", "relative change"} <= texts

    def test_names_are_text_and_never_markup(self, base, trained):
        found = diff(Input("<b>&", None, trained, base, "base"), Input('"', None, trained, base, "base"))
        assert "<b>&" in "".join(ET.fromstring(picture(found)).itertext())

    def test_a_difference_without_modules_can_be_drawn(self, compare):
        from dataclasses import replace

        ET.fromstring(picture(replace(compare(lambda _: None), modules=())))


def test_the_document_is_as_documented(compare):
    import msgspec

    page = (Path(__file__).parents[3] / "docs" / "diffing.md").read_text()
    found = msgspec.to_builtins(compare(times(2, "layers.1")))
    json.dumps(found, allow_nan=False)

    def names(value):
        if isinstance(value, dict):
            yield from value
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ():
            yield from names(each)

    for name in set(names(found)):
        assert f"`{name}`" in page, name
