"""Real adapters composed: PEFT loads what comes out, and it adds what float64 says; all else is refused by name."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.domain.errors import InvalidInput, Unsupported
from adapter_registry.domain.lineage import total_error
from adapter_registry.tensors.adapter_out import write_adapter
from adapter_registry.tensors.base_weights import base_weights
from adapter_registry.tensors.composing.compose import compose
from adapter_registry.tensors.composing.methods import find_method
from adapter_registry.tensors.composing.module import Wanted
from adapter_registry.tensors.composing.options import How
from adapter_registry.tensors.composing.refusals import Part
from adapter_registry.tensors.loaded import loaded
from tests.adapter_builders import adapter, changed_tensors, llama
from tests.unit.checkpoints.test_intake_honest import LORAS
from tests.unit.tensors.merging import by_peft
from tests.unit.tensors.merging import loaded as merged_base
from tests.unit.tensors.test_layers import deltas_of, gpt2, mixtral


def lora(base: Path, folder: Path, **options) -> Path:
    from peft import LoraConfig

    return adapter(folder, base, LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, **options}))


def put_together(out: Path, base: Path, weighted, method="linear", *, wanted=None, with_base=False, **options):
    """Composes folders with weights into `out`; how well each module fits."""
    known = read_base(base, cache=None, progress=lambda _: None)
    with ExitStack() as stack:
        parts = [Part(stack.enter_context(loaded(f, known)), w, f.name) for f, w in weighted]
        weights = stack.enter_context(base_weights(base)) if with_base else None
        made = compose(
            parts, find_method(method)[2], How((), **options), wanted or Wanted(tolerance=1e-6), base=weights
        )
        write_adapter(out, made.adapter)
    return made


def summed(base: Path, weighted):
    """Σ w · D of each module, by our own reading, which is held against PEFT elsewhere."""
    found: dict[str, np.ndarray] = {}
    for folder, weight in weighted:
        for name, delta in deltas_of(folder, base).items():
            found[name] = found.get(name, 0) + weight * delta.astype(np.float64)
    return found


def logits(base: Path, folder: Path | None = None):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if folder is not None:
        model = PeftModel.from_pretrained(model, folder)
    with torch.no_grad():
        return model(torch.arange(1, 9)[None]).logits.numpy()


def peft_deltas(base: Path, folder: Path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    return {
        name: module.get_delta_weight("default").detach().numpy()
        for name, module in model.base_model.model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


MIXED = {
    "rsLoRA first, another rank": ({"use_rslora": True}, {"r": 2}),
    "other targets": ({"target_modules": ["q_proj", "v_proj"]}, {"target_modules": ["q_proj", "down_proj"]}),
    "a list and a pattern": ({"target_modules": ["q_proj"]}, {"target_modules": r".*\.1\..*(q|k)_proj"}),
    "differing rank and alpha patterns": (
        {
            "target_modules": ["q_proj", "v_proj"],
            "rank_pattern": {"v_proj": 2},
            "alpha_pattern": {"1.self_attn.q_proj": 3},
        },
        {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 1}},
    ),
    "embeddings": ({"target_modules": ["embed_tokens", "q_proj"]}, {"target_modules": ["embed_tokens"], "r": 2}),
}


class TestSum:
    @pytest.mark.parametrize("case", MIXED)
    def test_peft_loads_the_result_and_it_adds_the_weighted_sum(self, tmp_path, llama_folder, case):
        first, second = ({"target_modules": ["q_proj"], **options} for options in MIXED[case])
        weighted = [
            (lora(llama_folder, tmp_path / "a", **first), 0.7),
            (lora(llama_folder, tmp_path / "b", **second), -0.3),
        ]
        put_together(tmp_path / "out", llama_folder, weighted)
        expected, found = summed(llama_folder, weighted), peft_deltas(llama_folder, tmp_path / "out")
        assert found.keys() == expected.keys()
        for name, delta in expected.items():
            theirs = (
                found[name]
                if found[name].size == delta[0].size and found[name].shape == delta[0].shape
                else found[name].T
            )
            assert np.allclose(theirs, delta[0], rtol=1e-4, atol=1e-6), name

    @pytest.mark.parametrize(
        ("make", "options"),
        [
            (gpt2, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
            (
                mixtral,
                {
                    "target_modules": [],
                    "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
                    "lora_dropout": 0,
                },
            ),
        ],
    )
    def test_weights_stored_the_other_way_round_and_stacks_of_experts(self, tmp_path, make, options):
        base = make(tmp_path / "base")
        weighted = [
            (lora(base, tmp_path / "a", **options), 0.7),
            (lora(base, tmp_path / "b", **{**options, "r": 2}), -0.3),
        ]
        put_together(tmp_path / "out", base, weighted)
        expected, found = summed(base, weighted), deltas_of(tmp_path / "out", base)
        for name, delta in expected.items():
            assert np.allclose(found[name], delta, rtol=1e-4, atol=1e-6), name
        assert np.isfinite(logits(base, tmp_path / "out")).all()

    @pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
    def test_a_head_that_is_tied_to_the_embedding(self, tmp_path):
        base = llama(tmp_path / "base", tie_word_embeddings=True)
        weighted = [(lora(base, tmp_path / "a", target_modules=["lm_head", "q_proj"]), 0.7), (tmp_path / "a", -0.3)]
        put_together(tmp_path / "out", base, weighted)
        found, expected = peft_deltas(base, tmp_path / "out"), peft_deltas(base, tmp_path / "a")
        assert "lm_head" in expected
        for name, delta in expected.items():
            assert np.allclose(found[name], 0.4 * delta, rtol=1e-4, atol=1e-6)

    def test_stacking_ranks_loses_nothing(self, tmp_path, llama_folder):
        weighted = [
            (lora(llama_folder, tmp_path / "a", target_modules=["q_proj"]), 0.7),
            (lora(llama_folder, tmp_path / "b", target_modules=["q_proj", "v_proj"], r=2), -0.3),
        ]
        made = put_together(tmp_path / "out", llama_folder, weighted, "cat", wanted=Wanted())
        assert {fit.name.split(".")[-1]: fit.rank for fit in made.fits} == {"q_proj": 6, "v_proj": 2}
        for name, delta in summed(llama_folder, weighted).items():
            assert np.allclose(deltas_of(tmp_path / "out", llama_folder)[name], delta, rtol=1e-5, atol=1e-7)

    def test_it_is_as_good_as_pefts_svd(self, tmp_path, llama_folder):
        """PEFT's own answer, where it is right: two plain adapters of one rank."""
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        options = {"target_modules": ["q_proj", "v_proj"]}
        a, b = (
            lora(llama_folder, tmp_path / "a", **options),
            lora(llama_folder, tmp_path / "b", **options, init_lora_weights=True),
        )
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama_folder), a, adapter_name="a")
        model.load_adapter(b, "b")
        model.add_weighted_adapter(["a", "b"], [0.7, 0.2], "both", combination_type="svd", svd_rank=4)
        put_together(tmp_path / "out", llama_folder, [(a, 0.7), (b, 0.2)], "svd", wanted=Wanted(rank=4))
        ours = deltas_of(tmp_path / "out", llama_folder)
        for name, module in model.base_model.model.named_modules():
            if hasattr(module, "get_delta_weight"):
                theirs = module.get_delta_weight("both").detach().numpy()
                assert np.linalg.norm(ours[name][0] - theirs) < 1e-5 * np.linalg.norm(theirs)


class TestError:
    @pytest.mark.parametrize(
        ("method", "options"), [("svd", {}), ("ties:peft", {"density": 0.4}), ("core-ties:peft", {"density": 0.4})]
    )
    def test_what_is_told_is_the_error_of_the_files_that_peft_loads(self, tmp_path, llama_folder, method, options):
        weighted = [
            (lora(llama_folder, tmp_path / "a", target_modules=["q_proj"]), 0.7),
            (lora(llama_folder, tmp_path / "b", target_modules=["q_proj", "v_proj"], r=3), 0.4),
        ]
        exact = put_together(
            tmp_path / "exact", llama_folder, weighted, method, wanted=Wanted(tolerance=1e-6), **options
        )
        made = put_together(tmp_path / "out", llama_folder, weighted, method, wanted=Wanted(rank=2), **options)
        truth, found = (peft_deltas(llama_folder, tmp_path / each) for each in ("exact", "out"))
        for fit in made.fits:
            measured = np.linalg.norm(found[fit.name] - truth[fit.name]) / np.linalg.norm(truth[fit.name])
            assert fit.error == pytest.approx(measured, rel=1e-3, abs=1e-5)
            assert fit.norm == pytest.approx(np.linalg.norm(truth[fit.name]), rel=1e-4)
        apart = sum(np.linalg.norm(found[n] - truth[n]) ** 2 for n in truth) / sum(
            np.linalg.norm(d) ** 2 for d in truth.values()
        )
        assert total_error(made.fits) == pytest.approx(apart**0.5, rel=1e-3)
        assert total_error(exact.fits) < 1e-5

    def test_auto_gives_each_module_the_rank_it_needs_and_peft_loads_them(self, tmp_path, llama_folder):
        a = lora(llama_folder, tmp_path / "a", target_modules=["q_proj", "v_proj"], rank_pattern={"v_proj": 1})
        b = lora(llama_folder, tmp_path / "b", target_modules=["q_proj"], r=3)
        made = put_together(tmp_path / "out", llama_folder, [(a, 1.0), (b, 1.0)], wanted=Wanted(tolerance=0.2))
        assert len({fit.rank for fit in made.fits}) > 1
        assert all(fit.error <= 0.2 for fit in made.fits)
        assert peft_deltas(llama_folder, tmp_path / "out").keys() == {fit.name for fit in made.fits}

    def test_one_rank_for_all_is_the_largest_that_a_module_needs(self, tmp_path, llama_folder):
        a = lora(llama_folder, tmp_path / "a", target_modules=["q_proj", "v_proj"], rank_pattern={"v_proj": 1})
        b = lora(llama_folder, tmp_path / "b", target_modules=["q_proj"], r=3)
        both = [(a, 1.0), (b, 1.0)]
        apart = put_together(tmp_path / "apart", llama_folder, both, wanted=Wanted(tolerance=0.2))
        made = put_together(tmp_path / "out", llama_folder, both, wanted=Wanted(tolerance=0.2, one_rank=True))
        assert {fit.rank for fit in made.fits} == {max(fit.rank for fit in apart.fits)}
        assert all(fit.error <= 0.2 for fit in made.fits)

    def test_not_normalising_is_heeded_where_normalising_is_the_default(self, tmp_path, llama_folder):
        both = [(lora(llama_folder, tmp_path / "a", target_modules=["q_proj"]), w) for w in (0.2, 0.3)]
        norms = [
            put_together(tmp_path / str(n), llama_folder, both, "linear:mergekit", normalise=n).fits[0].norm
            for n in (None, False)
        ]
        assert norms[1] == pytest.approx(0.5 * norms[0])


class TestDora:
    def test_with_the_bases_weights_its_delta_is_exact(self, tmp_path, llama_folder):
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        a = lora(llama_folder, tmp_path / "a", target_modules=["q_proj"], use_dora=True)
        b = lora(llama_folder, tmp_path / "b", target_modules=["q_proj", "v_proj"])
        put_together(
            tmp_path / "out", llama_folder, [(a, 0.6), (b, -0.5)], with_base=True, wanted=Wanted(tolerance=1e-6)
        )
        base = AutoModelForCausalLM.from_pretrained(llama_folder)
        before = {name: value.detach().double().numpy().copy() for name, value in base.named_parameters()}

        def merged(folder):
            model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama_folder), folder)
            return {n: p.detach().double().numpy() - before[n] for n, p in model.merge_and_unload().named_parameters()}

        one, other, both = merged(a), merged(b), merged(tmp_path / "out")
        for name in before:
            if "q_proj" in name or "v_proj" in name:
                assert np.allclose(both[name], 0.6 * one[name] - 0.5 * other[name], atol=2e-6), name

    def test_without_them_it_is_refused_by_name(self, tmp_path, llama_folder):
        a = lora(llama_folder, tmp_path / "a", target_modules=["q_proj"], use_dora=True)
        with pytest.raises(Unsupported, match=r"q_proj is a DoRA's .* --base-path"):
            put_together(tmp_path / "out", llama_folder, [(a, 0.5)])

    def test_a_method_on_factors_refuses_it(self, tmp_path, llama_folder):
        a = lora(llama_folder, tmp_path / "a", target_modules=["q_proj"], use_dora=True)
        with pytest.raises(Unsupported, match="works on the factors"):
            put_together(tmp_path / "out", llama_folder, [(a, 0.5), (a, 0.5)], "tsv-m", with_base=True)


class TestWhole:
    def test_what_one_adapter_saves_whole_is_kept_and_told(self, tmp_path, llama_folder):
        a = lora(llama_folder, tmp_path / "a", target_modules=["q_proj"])
        b = lora(llama_folder, tmp_path / "b", target_modules=["v_proj"], modules_to_save=["lm_head"])
        made = put_together(tmp_path / "out", llama_folder, [(a, 1.0), (b, 1.0)])
        assert made.notices == ("lm_head.weight: kept whole as b has it",)
        only_head = put_together(tmp_path / "b-alone", llama_folder, [(b, 1.0)])
        assert only_head.notices == made.notices
        zero = put_together(tmp_path / "zero", llama_folder, [(a, 0.0), (b, 0.0)])
        assert zero.notices == made.notices
        assert not np.allclose(logits(llama_folder, tmp_path / "zero"), logits(llama_folder))

    def test_two_that_differ_are_summed_with_the_bases_weights_and_refused_without(self, tmp_path, llama_folder):
        from safetensors.numpy import load_file

        a = lora(llama_folder, tmp_path / "a", target_modules=["q_proj"], modules_to_save=["lm_head"])
        b = lora(llama_folder, tmp_path / "b", target_modules=["v_proj"], modules_to_save=["lm_head"])
        changed_tensors(b, lambda tensors: [t.mul_(0.5) for name, t in tensors.items() if "lm_head" in name])
        with pytest.raises(Unsupported, match=r"lm_head\.weight is saved whole in a and b, and differs; .*--base-path"):
            put_together(tmp_path / "no", llama_folder, [(a, 0.4), (b, 0.5)])
        put_together(tmp_path / "out", llama_folder, [(a, 0.4), (b, 0.5)], with_base=True)
        key = "base_model.model.lm_head.weight"
        heads = [load_file(folder / "adapter_model.safetensors")[key] for folder in (a, b, tmp_path / "out")]
        weight = load_file(llama_folder / "model.safetensors")["lm_head.weight"]
        assert np.allclose(heads[2], weight + 0.4 * (heads[0] - weight) + 0.5 * (heads[1] - weight), atol=1e-6)

    def test_trained_tokens_of_one_are_kept_and_of_two_refused(self, tmp_path, llama_folder):
        a = lora(llama_folder, tmp_path / "a", target_modules=["q_proj"], trainable_token_indices=[1, 5])
        b = lora(llama_folder, tmp_path / "b", target_modules=["q_proj"], trainable_token_indices=[2])
        plain = lora(llama_folder, tmp_path / "c", target_modules=["v_proj"])
        made = put_together(tmp_path / "out", llama_folder, [(a, 1.0), (plain, 1.0)])
        assert made.notices == ("model.embed_tokens.token_delta: kept whole as a has it",)
        assert np.isfinite(logits(llama_folder, tmp_path / "out")).all()
        with pytest.raises(Unsupported, match="trainable_token_indices"):
            put_together(tmp_path / "no", llama_folder, [(a, 1.0), (b, 1.0)])

    def test_biases_of_one_are_kept(self, tmp_path):
        base = llama(tmp_path / "base", attention_bias=True)
        a = lora(base, tmp_path / "a", target_modules=["q_proj"], bias="lora_only")
        plain = lora(base, tmp_path / "b", target_modules=["q_proj"])
        made = put_together(tmp_path / "out", base, [(a, 1.0), (plain, 0.0)])
        assert any("q_proj.bias: kept whole as a has it" in each for each in made.notices)
        assert np.allclose(logits(base, tmp_path / "out"), logits(base, a), atol=1e-5)

    def test_a_bias_of_a_module_that_only_the_other_one_adapts_is_found_by_peft(self, tmp_path):
        from safetensors.numpy import load_file

        base = llama(tmp_path / "base", attention_bias=True)
        a = lora(base, tmp_path / "a", target_modules=["q_proj"], bias="all")
        plain = lora(base, tmp_path / "b", target_modules=["v_proj"])
        put_together(tmp_path / "out", base, [(a, 1.0), (plain, 0.0)])
        names = load_file(tmp_path / "out" / "adapter_model.safetensors").keys()
        assert "base_model.model.model.layers.0.self_attn.v_proj.base_layer.bias" in names
        assert np.allclose(logits(base, tmp_path / "out"), logits(base, a), atol=1e-5)

    def test_convolutions_and_batch_normalisations_with_their_counts(self, tmp_path):
        from safetensors.torch import load_file

        from tests.unit.checkpoints.test_intake_architectures import MODELS

        def resnet(folder):
            import torch

            torch.manual_seed(0)
            MODELS["resnet"]().save_pretrained(folder)
            return folder

        base, auto = resnet(tmp_path / "base"), "AutoModelForImageClassification"
        from peft import LoraConfig

        options = {"target_modules": ["convolution"], "modules_to_save": ["normalization"]}
        a, b = (adapter(tmp_path / f"r{r}", base, LoraConfig(r=r, **options), auto=auto) for r in (4, 3))

        def counted(tensors):
            for name, tensor in tensors.items():
                if name.endswith("num_batches_tracked"):
                    tensor.fill_(7)
                elif "lora_" in name:
                    tensor.mul_(-2)

        changed_tensors(b, counted)
        made = put_together(tmp_path / "out", base, [(a, 0.7), (b, -0.3)], with_base=True)
        assert any("the largest count of 2" in notice for notice in made.notices)
        stored = load_file(tmp_path / "out" / "adapter_model.safetensors")
        assert {int(t) for name, t in stored.items() if name.endswith("num_batches_tracked")} == {7}

        def state(folder=None):
            model = by_peft(base, folder, auto=auto) if folder else merged_base(base, auto)
            return {name: value.double() for name, value in model.state_dict().items() if value.ndim}

        before, one, other, found = state(), state(a), state(b), state(tmp_path / "out")
        for name, weight in before.items():
            expected = weight + 0.7 * (one[name] - weight) - 0.3 * (other[name] - weight)
            assert np.allclose(found[name], expected, atol=1e-5), name

    def test_a_module_that_one_saves_whole_and_another_adds_to(self, tmp_path, llama_folder):
        a = lora(llama_folder, tmp_path / "a", target_modules=["q_proj"], modules_to_save=["v_proj"])
        b = lora(llama_folder, tmp_path / "b", target_modules=["v_proj"])
        with pytest.raises(Unsupported, match=r"v_proj: .*saved whole"):
            put_together(tmp_path / "no", llama_folder, [(a, 1.0), (b, 1.0)])


UNUSUAL = {
    "block-diagonal": "bdlora",
    "kasa": "kasa",
    "monteclora": "monteclora",
    "qalora": "qalora",
    "velora": "velora",
}


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"lora_bias": True}, "lora_bias"),
            ({"alora_invocation_tokens": [3, 4]}, "alora"),
            ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication.*share one weight of the base"),
            *((LORAS[name], told) for name, told in UNUSUAL.items()),
        ],
    )
    def test_what_has_no_plain_delta_is_refused_by_name(self, tmp_path, options, told):
        base = llama(tmp_path / "base", attention_bias="lora_bias" in options)
        a = lora(base, tmp_path / "a", **{"target_modules": ["q_proj"], **options})
        with pytest.raises(Unsupported, match=told):
            put_together(tmp_path / "no", base, [(a, 1.0), (a, 1.0)])
        assert not (tmp_path / "no").exists()

    def test_another_method_than_lora(self, tmp_path, llama_folder):
        from peft import LoHaConfig

        a = adapter(tmp_path / "a", llama_folder, LoHaConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
        with pytest.raises(Unsupported, match="LOHA"):
            put_together(tmp_path / "no", llama_folder, [(a, 1.0)])


def ia3(base, folder, targets=("k_proj", "down_proj"), reads=("down_proj",)):
    from peft import IA3Config

    config = IA3Config(task_type="CAUSAL_LM", target_modules=list(targets), feedforward_modules=list(reads))
    return adapter(folder, base, config)


class TestIA3:
    def test_the_result_adds_the_weighted_sum_of_what_each_adds(self, tmp_path, llama_folder):
        weighted = [
            (ia3(llama_folder, tmp_path / "a"), 0.7),
            (ia3(llama_folder, tmp_path / "b", ["v_proj", "down_proj"]), -0.3),
        ]
        changed_tensors(tmp_path / "b", lambda tensors: [t.mul_(-2) for t in tensors.values()])
        made = put_together(tmp_path / "out", llama_folder, weighted, wanted=Wanted())
        assert total_error(made.fits) == 0

        def state(folder=None):
            model = by_peft(llama_folder, folder) if folder else merged_base(llama_folder)
            return {name: value.double().numpy() for name, value in model.state_dict().items()}

        before, one, other, found = state(), state(tmp_path / "a"), state(tmp_path / "b"), state(tmp_path / "out")
        for name, weight in before.items():
            expected = weight + 0.7 * (one[name] - weight) - 0.3 * (other[name] - weight)
            assert np.allclose(found[name], expected, atol=1e-6), name
        assert not np.allclose(
            found["model.layers.0.self_attn.v_proj.weight"], before["model.layers.0.self_attn.v_proj.weight"]
        )

    def test_one_at_weight_one_is_itself_and_weights_that_sum_to_one_give_pefts_linear(self, tmp_path, llama_folder):
        from peft import PeftModel
        from safetensors.numpy import load_file

        a, b = ia3(llama_folder, tmp_path / "a"), ia3(llama_folder, tmp_path / "b")
        changed_tensors(b, lambda tensors: [t.mul_(-2) for t in tensors.values()])
        put_together(tmp_path / "alone", llama_folder, [(a, 1.0)], wanted=Wanted())
        one, alone = (load_file(folder / "adapter_model.safetensors") for folder in (a, tmp_path / "alone"))
        assert all(np.allclose(alone[name], one[name], atol=1e-7) for name in one)
        put_together(tmp_path / "out", llama_folder, [(a, 0.6), (b, 0.4)], wanted=Wanted())
        model = PeftModel.from_pretrained(merged_base(llama_folder), a, adapter_name="a")
        model.load_adapter(b, "b")
        model.add_weighted_adapter(["a", "b"], [0.6, 0.4], "both")
        model.save_pretrained(tmp_path / "peft", selected_adapters=["both"])
        theirs = load_file(tmp_path / "peft" / "both" / "adapter_model.safetensors")
        ours = load_file(tmp_path / "out" / "adapter_model.safetensors")
        assert all(np.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)

    def test_half_precision_costs_what_is_told(self, tmp_path, llama_folder):
        made = put_together(
            tmp_path / "out", llama_folder, [(ia3(llama_folder, tmp_path / "a"), 0.5)], wanted=Wanted(dtype="BF16")
        )
        assert 0 < total_error(made.fits) < 0.01

    @pytest.mark.parametrize(
        ("other", "method", "wanted", "told"),
        [
            (lambda b, f: ia3(b, f, reads=()), "linear", Wanted(), "down_proj: one adapter scales what it reads"),
            (lambda b, f: lora(b, f, target_modules=["q_proj"]), "linear", Wanted(), "one method for all"),
            (ia3, "ties:peft", Wanted(), "Take --method linear"),
            (ia3, "linear", Wanted(rank=3), "have no rank"),
        ],
    )
    def test_what_is_no_vector_is_refused(self, tmp_path, llama_folder, other, method, wanted, told):
        both = [(ia3(llama_folder, tmp_path / "a"), 0.5), (other(llama_folder, tmp_path / "b"), 0.5)]
        options = {"density": 0.5} if "ties" in method else {}
        with pytest.raises((Unsupported, InvalidInput), match=told):
            put_together(tmp_path / "no", llama_folder, both, method, wanted=wanted, **options)
