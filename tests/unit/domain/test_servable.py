"""What stacks do with adapters, row by row; a stack or version that was not examined is never guessed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adapter_registry.domain.base import Tensor
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.policies.file import read_policy, to_yaml
from adapter_registry.domain.policies.lint import lint
from adapter_registry.domain.policies.policy import Policy, document
from adapter_registry.domain.promotions import gate
from adapter_registry.domain.promotions.finding import Outcome
from adapter_registry.domain.servable import Servable, facts_of, flattening, judged, report, stacks_of
from adapter_registry.domain.servable_experts import Experts, experts_of
from adapter_registry.domain.servable_facts import Facts
from adapter_registry.domain.servable_names import as_text
from adapter_registry.domain.servable_rules import STACKS, VLLM_RANKS, parse, vllm_rank
from tests.unit.domain.test_gate import LORA, V3
from tests.unit.domain.test_lock import base as base_of

PLAIN = Facts("LORA", rank=8, kinds=("q_proj", "v_proj"))
BASE = base_of()
TOWER = replace(PLAIN, beside=("visual",))
EXPERTS = ("down_proj", "gate_up_proj")
STACKED = replace(PLAIN, kinds=EXPERTS, parameters=True, experts=Experts(("mlp.experts",)))
HALF = replace(STACKED, experts=Experts(("mlp.experts",), halves=True))
SPREAD = replace(STACKED, experts=Experts(("mlp.experts",), single=("down_proj", "gate_proj", "up_proj")))
MIXTRAL = Experts(("mlp.experts",), single=("w1", "w2", "w3"))
SINGLY = replace(PLAIN, kinds=("down_proj", "gate_proj", "up_proj"), experts=Experts(singly=True))
SOME = replace(SINGLY, experts=Experts(singly=True, some=True))
HEAD = replace(PLAIN, kinds=("lm_head",))
LOADS, FLAGS, FLATTEN, WRONG, REFUSED = Servable


def names(modules):
    """Of the tensors of adapted modules, given below `model.layers`."""
    paths = [f"model.layers.{each}" if each[0].isdigit() else each for each in modules]
    return [f"base_model.model.{path}.lora_{factor}.weight" for path in paths for factor in "AB"]


def verdicts(facts):
    return {each.stack.partition(":")[0]: each.verdict for each in judged(facts, stacks_of(""))}


class TestReport:
    def test_a_plain_lora_loads_everywhere(self):
        assert verdicts(PLAIN) == {
            "vllm": LOADS,
            "sglang": FLAGS,
            "llama.cpp": LOADS,
            "lorax": LOADS,
            "tgi": LOADS,
            "peft": LOADS,
        }

    @pytest.mark.parametrize(
        ("facts", "vllm", "sglang", "llama", "lorax"),
        [
            (Facts("IA3"), REFUSED, REFUSED, REFUSED, REFUSED),
            (replace(PLAIN, variant=("rslora",)), LOADS, FLATTEN, FLATTEN, LOADS),
            (replace(PLAIN, mixed_ranks=True), LOADS, FLATTEN, LOADS, FLATTEN),
            (replace(PLAIN, alphas=True), LOADS, FLATTEN, FLATTEN, FLATTEN),
            (replace(PLAIN, variant=("dora",)), REFUSED, REFUSED, REFUSED, WRONG),
            (replace(PLAIN, variant=("dora", "rslora")), REFUSED, REFUSED, REFUSED, WRONG),
            (replace(PLAIN, variant=("lora_bias",)), REFUSED, WRONG, REFUSED, WRONG),
            (replace(PLAIN, variant=("layer_replication",)), REFUSED, WRONG, WRONG, WRONG),
            (replace(PLAIN, variant=("kasa",)), WRONG, WRONG, WRONG, WRONG),
            (replace(PLAIN, bias=True), REFUSED, WRONG, REFUSED, WRONG),
            (replace(PLAIN, saved=("score",)), FLAGS, WRONG, REFUSED, WRONG),
            (replace(PLAIN, saved=("lm_head",)), REFUSED, WRONG, REFUSED, WRONG),
            (replace(PLAIN, tokens=True), REFUSED, WRONG, REFUSED, WRONG),
            (replace(PLAIN, start="kaiming"), FLATTEN, FLAGS, LOADS, LOADS),
            (replace(PLAIN, start="eva"), LOADS, FLAGS, LOADS, LOADS),
            (replace(PLAIN, start="EVA"), LOADS, FLAGS, LOADS, LOADS),
            (replace(PLAIN, pattern=True), LOADS, FLATTEN, LOADS, LOADS),
            (replace(PLAIN, unpaired=("q_proj without v_proj",)), LOADS, REFUSED, LOADS, LOADS),
            (replace(PLAIN, kinds=("c_attn",)), LOADS, REFUSED, LOADS, LOADS),
            (replace(PLAIN, kinds=("q_proj", "out_proj")), LOADS, FLAGS, LOADS, LOADS),
            (replace(PLAIN, saved=("input_layernorm",)), REFUSED, WRONG, WRONG, WRONG),
            (replace(PLAIN, variant=("alora",)), REFUSED, WRONG, LOADS, WRONG),
            (replace(PLAIN, gaps=("self_attn.v_proj",)), LOADS, FLAGS, LOADS, WRONG),
            (replace(PLAIN, rank=4), LOADS, FLAGS, LOADS, FLATTEN),
            (replace(PLAIN, rank=24), FLAGS, FLAGS, LOADS, FLATTEN),
            (replace(PLAIN, kinds=("embed_tokens", "q_proj")), LOADS, FLAGS, LOADS, WRONG),
            (replace(PLAIN, architecture="Qwen3ForCausalLM"), LOADS, FLAGS, LOADS, REFUSED),
            (replace(PLAIN, kinds=("lm_head",), architecture="LlamaForCausalLM"), LOADS, FLAGS, LOADS, LOADS),
            (replace(PLAIN, kinds=("lm_head",), architecture="Qwen2ForCausalLM"), REFUSED, FLAGS, LOADS, LOADS),
            (replace(PLAIN, kinds=("embed_tokens",), architecture="MistralForCausalLM"), REFUSED, FLAGS, LOADS, WRONG),
            (replace(PLAIN, kinds=("embed_tokens",), architecture="PhiForCausalLM"), LOADS, FLAGS, LOADS, WRONG),
            (replace(PLAIN, kinds=("lm_head",), architecture="PhiForCausalLM"), REFUSED, FLAGS, LOADS, LOADS),
            (replace(PLAIN, tied_head=True), LOADS, FLAGS, REFUSED, LOADS),
            (replace(PLAIN, kinds=("c_attn",), architecture="GPT2LMHeadModel"), REFUSED, REFUSED, LOADS, LOADS),
            (replace(PLAIN, architecture="Qwen2VLForConditionalGeneration"), LOADS, FLAGS, LOADS, REFUSED),
            (replace(TOWER, architecture="Qwen2VLForConditionalGeneration"), FLAGS, WRONG, WRONG, REFUSED),
            (replace(TOWER, architecture="Mistral3ForConditionalGeneration"), WRONG, WRONG, WRONG, REFUSED),
            (TOWER, WRONG, WRONG, WRONG, WRONG),
            (replace(PLAIN, rank=32), FLAGS, FLAGS, LOADS, LOADS),
            (replace(PLAIN, rank=528), REFUSED, FLAGS, LOADS, LOADS),
            (replace(PLAIN, declared=32), FLAGS, FLAGS, LOADS, LOADS),
            (replace(PLAIN, parameters=True), WRONG, WRONG, WRONG, WRONG),
            (STACKED, WRONG, REFUSED, REFUSED, WRONG),
            (replace(STACKED, architecture="Qwen3MoeForCausalLM"), FLAGS, REFUSED, REFUSED, REFUSED),
            (replace(STACKED, architecture="Qwen3_5MoeForConditionalGeneration"), LOADS, REFUSED, REFUSED, REFUSED),
            (replace(STACKED, architecture="GptOssForCausalLM"), LOADS, REFUSED, REFUSED, REFUSED),
            (replace(STACKED, architecture="MixtralForCausalLM"), WRONG, REFUSED, REFUSED, WRONG),
            (replace(SPREAD, architecture="Qwen3MoeForCausalLM"), FLAGS, FLATTEN, FLATTEN, REFUSED),
            (replace(SPREAD, experts=MIXTRAL, architecture="MixtralForCausalLM"), FLATTEN, REFUSED, FLATTEN, WRONG),
            (replace(STACKED, architecture="NemotronHForCausalLM"), WRONG, REFUSED, REFUSED, REFUSED),
            (replace(HALF, architecture="Qwen3MoeForCausalLM"), REFUSED, REFUSED, REFUSED, REFUSED),
            (replace(HALF, architecture="GptOssForCausalLM"), REFUSED, REFUSED, REFUSED, REFUSED),
            (replace(SINGLY, architecture="Qwen3MoeForCausalLM"), LOADS, FLAGS, LOADS, REFUSED),
            (replace(SINGLY, architecture="Qwen3VLMoeForConditionalGeneration"), FLAGS, FLAGS, LOADS, REFUSED),
            (replace(SOME, architecture="Qwen3MoeForCausalLM"), REFUSED, FLAGS, REFUSED, REFUSED),
            (replace(SOME, architecture="Qwen3VLMoeForConditionalGeneration"), REFUSED, FLAGS, REFUSED, REFUSED),
            (SINGLY, LOADS, FLAGS, LOADS, WRONG),
            (replace(HEAD, architecture="Qwen2_5_VLForConditionalGeneration"), REFUSED, FLAGS, LOADS, REFUSED),
            (replace(HEAD, architecture="Qwen3VLForConditionalGeneration"), LOADS, FLAGS, LOADS, REFUSED),
            (replace(HEAD, architecture="LlavaForConditionalGeneration"), LOADS, FLAGS, LOADS, REFUSED),
        ],
    )
    def test_each_stack_has_a_verdict_of_its_own(self, facts, vllm, sglang, llama, lorax):
        found = verdicts(facts)
        assert (found["vllm"], found["sglang"], found["llama.cpp"], found["lorax"]) == (vllm, sglang, llama, lorax)
        assert found["peft"] is LOADS

    @pytest.mark.parametrize(
        ("facts", "verdict"),
        [
            (replace(PLAIN, rank=4), FLATTEN),
            (replace(PLAIN, variant=("rslora",)), LOADS),
            (replace(PLAIN, mixed_ranks=True), FLATTEN),
            (replace(PLAIN, gaps=("self_attn.v_proj",)), WRONG),
            (replace(PLAIN, kinds=("lm_head", "q_proj")), WRONG),
            (replace(PLAIN, kinds=("c_fc", "c_proj"), architecture="Starcoder2ForCausalLM"), LOADS),
            (replace(PLAIN, architecture="MixtralForCausalLM"), REFUSED),
            (replace(PLAIN, architecture="Qwen2VLForConditionalGeneration"), LOADS),
            (TOWER, WRONG),
        ],
    )
    def test_tgi_adapts_fewer_models_and_modules_than_the_code_it_comes_from(self, facts, verdict):
        assert verdicts(facts)["tgi"] is verdict

    def test_of_another_method_it_is_said_once_that_it_is_another(self):
        [found] = judged(
            Facts("LOHA", kinds=("k_proj",), rank=3, unpaired=("k_proj without q_proj",)), [parse("sglang")]
        )
        assert found.reasons == ("it takes LoRA, and this is LOHA",)

    def test_modules_that_sglang_has_no_name_for_are_asked_for_all_at_once(self):
        assert report(parse("sglang"), replace(PLAIN, kinds=("out_proj", "q_proj"))).flags.endswith("-modules all")

    def test_experts_in_the_form_that_vllm_does_not_keep_them_in_take_a_flag(self):
        found = report(parse("vllm"), replace(STACKED, architecture="Qwen3MoeForCausalLM"))
        assert found.flags == "--enable-lora --max-lora-rank 8 --enable-mixed-moe-lora-format"
        assert found.reasons == ("it keeps experts of Qwen3MoeForCausalLM singly, and they are adapted as stacks",)
        assert found.load == "is_3d_lora_weight"
        assert found.notes[-1].startswith("each load has to say is_3d_lora_weight")

    def test_experts_in_the_form_that_vllm_keeps_them_in_take_no_word_with_a_load(self):
        for facts in (
            replace(STACKED, architecture="GptOssForCausalLM"),
            replace(SINGLY, architecture="Qwen3VLMoeForConditionalGeneration"),
        ):
            assert report(parse("vllm"), facts).load == ""

    def test_stacks_of_experts_that_vllm_looks_for_elsewhere_are_told_with_the_place(self):
        [reason] = report(parse("vllm"), replace(STACKED, architecture="MixtralForCausalLM")).reasons
        assert reason == (
            "it looks for the experts of MixtralForCausalLM at block_sparse_moe.experts and leaves mlp.experts out"
        )

    @pytest.mark.parametrize(
        ("experts", "architecture", "verdict"),
        [
            (Experts(singly=True), "Qwen3MoeForCausalLM", LOADS),
            (Experts(singly=True), "Qwen2MoeForCausalLM", WRONG),
            (Experts(singly=True, namesakes=("up_proj",)), "Glm4MoeForCausalLM", WRONG),
            (Experts(singly=True, some=True, torn=True), "Qwen3MoeForCausalLM", REFUSED),
        ],
    )
    def test_peft_makes_stacks_of_single_experts_for_some_and_loses_their_namesakes(
        self, experts, architecture, verdict
    ):
        assert report(parse("peft"), replace(SINGLY, experts=experts, architecture=architecture)).verdict is verdict

    def test_sglang_is_started_with_all_modules_of_experts_or_adapts_none(self):
        found = report(parse("sglang"), replace(SINGLY, kinds=("gate_proj", "q_proj"))).flags
        assert found.endswith("--lora-target-modules down_proj gate_proj q_proj up_proj")

    def test_that_the_language_model_decides_of_embeddings_is_told_of_vllm_alone(self):
        facts = replace(HEAD, architecture="LlavaForConditionalGeneration")
        [told] = report(parse("vllm"), facts).notes
        assert told.startswith("whether it adapts lm_head depends on the language model")
        assert report(parse("sglang"), facts).notes == ()

    @pytest.mark.parametrize(
        ("stack", "architecture", "verdict"),
        [
            ("vllm:0.32", "Qwen3_5ForConditionalGeneration", WRONG),
            ("vllm:0.33", "Qwen3_5ForConditionalGeneration", LOADS),
            ("vllm:0.32", "Qwen2_5_VLForConditionalGeneration", LOADS),
        ],
    )
    def test_an_adapter_of_the_language_model_alone_is_left_out_where_it_has_another_name(
        self, stack, architecture, verdict
    ):
        assert report(parse(stack), replace(PLAIN, text=True, architecture=architecture)).verdict is verdict

    @pytest.mark.parametrize(
        ("module", "tensor", "text"),
        [
            ("model.layers.0.q_proj", "model.language_model.layers.0.q_proj.weight", True),
            ("model.layers.0.q_proj", "model.layers.0.q_proj.weight", False),
            ("model.language_model.layers.0.q_proj", "model.language_model.layers.0.q_proj.weight", False),
            ("model.layers.0.q_proj", None, False),
        ],
    )
    def test_names_of_a_language_model_alone_are_those_that_the_base_has_under_another(self, module, tensor, text):
        assert as_text([module], [tensor] if tensor else []) is text

    def test_a_rank_that_would_be_padded_is_told_with_the_rank_to_write(self):
        [reason] = report(parse("tgi"), replace(PLAIN, rank=24)).reasons
        assert reason == "it pads rank 24 to 32 and scales by that: flatten it with --rank 32"

    def test_one_command_flattens_it_for_all_that_want_that(self):
        def how(**facts):
            return flattening(
                judged(replace(PLAIN, **facts), [parse(name) for name in ("vllm", "sglang", "lorax", "tgi")])
            )

        assert how() is None
        assert how(variant=("rslora",)) == "--flatten"
        assert how(rank=24) == how(rank=24, variant=("rslora",)) == "--flatten --rank 32"
        assert report(parse("lorax"), replace(PLAIN, rank=24, method="LOHA")).pad_to is None

    def test_the_flags_are_those_to_paste(self):
        wide = replace(PLAIN, rank=33)
        assert report(parse("vllm:0.33"), wide).flags == "--enable-lora --max-lora-rank 64"
        told = report(parse("sglang"), wide).flags
        assert told == "--enable-lora --max-lora-rank 33 --lora-target-modules q_proj v_proj"

    def test_vllm_takes_the_configs_word_for_the_rank(self):
        found = report(parse("vllm"), replace(PLAIN, rank=8, declared=64))
        assert found.flags == "--enable-lora --max-lora-rank 64"
        assert found.reasons == ("rank 64, which its config names and no module has, is above its default of 16",)

    def test_a_head_of_classes_takes_a_server_that_classifies(self):
        classifier = replace(PLAIN, saved=("score",), architecture="LlamaForCausalLM")
        told = report(parse("vllm"), classifier)
        assert told.flags == "--enable-lora --max-lora-rank 8 --runner pooling --convert classify"
        at_home = replace(classifier, architecture="LlamaForSequenceClassification")
        assert report(parse("vllm"), at_home).flags == "--enable-lora --max-lora-rank 8"

    def test_towers_take_a_flag_where_the_architecture_has_them_adapted(self):
        found = report(parse("vllm"), replace(TOWER, architecture="Qwen2VLForConditionalGeneration"))
        assert found.flags == "--enable-lora --max-lora-rank 8 --enable-tower-connector-lora"
        assert found.reasons == ("it leaves visual out unless it is told to adapt towers and connectors",)

    def test_a_version_may_have_a_rule_of_its_own(self):
        classifier = replace(PLAIN, saved=("classifier",), architecture="BertForSequenceClassification")
        found = {each.stack: each.verdict for each in judged(classifier, stacks_of("vllm:0.32,vllm:0.33"))}
        assert found == {"vllm:0.32": REFUSED, "vllm:0.33": LOADS}

    def test_what_is_refused_gets_no_flags_and_what_is_flattened_first_does(self):
        assert report(parse("vllm"), replace(PLAIN, bias=True)).flags == ""
        assert report(parse("sglang"), replace(PLAIN, alphas=True)).flags.startswith("--enable-lora")

    def test_every_reason_is_told(self):
        found = report(parse("sglang"), replace(PLAIN, variant=("rslora",), alphas=True, mixed_ranks=True))
        assert len(found.reasons) == 3

    def test_a_quantised_base_is_noted_where_it_matters(self):
        facts = replace(PLAIN, quantised="bitsandbytes")
        assert any("quantisation" in text for text in report(parse("vllm"), facts).notes)
        assert report(parse("peft"), facts).notes == ()

    def test_a_quantised_mixture_of_experts_may_keep_vllm_from_starting(self):
        facts = replace(PLAIN, quantised="gptq", mixture=True)
        assert any("does not start with --enable-lora" in text for text in report(parse("vllm"), facts).notes)
        assert not any("start" in text for text in report(parse("vllm"), replace(facts, quantised=None)).notes)


class TestRank:
    @pytest.mark.parametrize(("rank", "flag"), [(1, 1), (2, 8), (16, 16), (17, 32), (257, 320), (512, 512)])
    def test_the_smallest_rank_that_is_allowed_and_enough(self, rank, flag):
        assert vllm_rank(rank) == flag

    def test_ranks_are_in_order(self):
        assert list(VLLM_RANKS) == sorted(VLLM_RANKS)


class TestParse:
    @pytest.mark.parametrize(
        ("text", "told"),
        [("vllm", "vllm:0.33"), ("vllm:0.32", "vllm:0.32"), ("vllm:0.33.2", "vllm:0.33"), ("lorax", "lorax")],
    )
    def test_a_patch_release_is_its_release(self, text, told):
        assert str(parse(text)) == told

    @pytest.mark.parametrize("text", ["", "vlm", "vllm:0.3", "vllm:0.330", "vllm:0.99", "lorax:1", "VLLM"])
    def test_what_was_not_examined_is_not_guessed(self, text):
        with pytest.raises(InvalidInput):
            parse(text)

    @pytest.mark.parametrize("text", ["ray", "nim", "kserve:0.21"])
    def test_a_stack_that_runs_vllm_is_judged_by_that(self, text):
        with pytest.raises(InvalidInput, match=r"loads adapters by the vLLM that it runs: ask for that, vllm:0\.33"):
            parse(text)

    def test_no_text_means_every_stack(self):
        assert [stack.name for stack in stacks_of("")] == list(STACKS)
        assert [str(stack) for stack in stacks_of("vllm, vllm:0.33,peft")] == ["vllm:0.33", "peft:0.21"]


class TestFactsOf:
    @pytest.mark.parametrize(
        ("module", "beside"),
        [
            ("model.layers.0.self_attn.q_proj", ()),
            ("model.language_model.layers.0.self_attn.q_proj", ()),
            ("model.visual.blocks.0.attn.qkv", ("visual",)),
            ("vision_tower.vision_model.encoder.layers.0.self_attn.q_proj", ("vision_tower",)),
            ("model.multi_modal_projector.linear_1", ("multi_modal_projector",)),
            ("model.division.visualise", ()),
        ],
    )
    def test_towers_are_told_by_a_part_of_the_path(self, module, beside):
        name = f"base_model.model.{module}.lora_A.weight"
        assert facts_of(LORA, {"r": 8}, None, tensors=[name, name]).beside == beside

    @pytest.mark.parametrize(
        ("modules", "unpaired"),
        [
            (["0.self_attn.q_proj", "0.self_attn.v_proj", "1.self_attn.q_proj"], ("q_proj without v_proj",)),
            (["0.self_attn.v_proj"], ("v_proj without q_proj",)),
            (["0.self_attn.q_proj", "0.self_attn.k_proj", "0.self_attn.v_proj"], ()),
            (["0.mlp.up_proj"], ("up_proj without gate_proj",)),
            (["0.mlp.gate_proj"], ()),
            (["0.mlp.experts.1.up_proj", "0.mlp.experts.1.gate_proj", "0.self_attn.o_proj"], ()),
        ],
    )
    def test_modules_that_are_fused_are_looked_at_layer_by_layer(self, modules, unpaired):
        assert facts_of(LORA, {"r": 8}, None, tensors=names(modules)).unpaired == unpaired

    def test_a_feed_forward_without_a_gate_has_nothing_to_be_fused_with(self):
        base = replace(BASE, tensors=(Tensor("model.layers.0.mlp.up_proj.weight", "F32", (2, 2)),))
        assert facts_of(LORA, {"r": 8}, base, tensors=names(["0.mlp.up_proj"])).unpaired == ()

    def test_gaps_are_layers_of_the_language_model_that_were_left_out(self):
        there = [*(f"model.layers.{layer}.self_attn.{kind}_proj.weight" for layer in (0, 1) for kind in "qv")]
        there.append("vision_tower.encoder.layers.2.self_attn.q_proj.weight")
        base = replace(BASE, tensors=tuple(Tensor(name, "F32", (2, 2)) for name in there))
        every = ["0.self_attn.q_proj", "1.self_attn.q_proj", "0.self_attn.v_proj", "lm_head"]
        assert facts_of(LORA, {"r": 8}, base, tensors=names(every)).gaps == ("self_attn.v_proj",)
        assert facts_of(LORA, {"r": 8}, None, tensors=names(every)).gaps == ()

    def test_ranks_are_those_of_the_tensors(self):
        assert facts_of(LORA, {"r": 8}, None, tensors=()).mixed_ranks is False
        assert facts_of(LORA, {"r": 4}, None, tensors=()).mixed_ranks is True
        assert facts_of(replace(LORA, ranks={"8": 40, "2": 8}), {"r": 8}, None, tensors=()).mixed_ranks is True

    def test_ranks_that_the_config_names_are_kept_apart(self):
        found = facts_of(LORA, {"r": 8, "rank_pattern": {"q_proj": 64}}, None, tensors=())
        assert (found.rank, found.declared, found.claimed) == (LORA.rank, 64, 64)

    def test_an_alpha_pattern_that_changes_nothing_is_none(self):
        assert facts_of(LORA, {"r": 8, "alpha_pattern": {"q_proj": 16}}, None, tensors=()).alphas is False
        several = replace(LORA, scaling={"2": 24, "4": 24})
        assert facts_of(several, {"r": 8, "alpha_pattern": {"q_proj": 32}}, None, tensors=()).alphas is True

    @pytest.mark.parametrize(
        ("document", "pattern"),
        [
            ({"target_modules": ".*q_proj"}, True),
            ({"target_modules": "all-linear"}, False),
            ({"target_modules": ["q"]}, False),
        ],
    )
    def test_all_linear_is_no_pattern(self, document, pattern):
        assert facts_of(LORA, {"r": 8, **document}, None, tensors=()).pattern is pattern


class TestGate:
    POLICY = Policy("prod", serving=("vllm:0.33", "sglang"))

    def test_one_finding_per_stack(self):
        found = gate.judge(self.POLICY, replace(V3, serving=replace(PLAIN, variant=("rslora",))))
        assert [(each.rule, each.outcome) for each in found] == [
            ("serving vllm:0.33", Outcome.PASS),
            ("serving sglang", Outcome.FAIL),
        ]
        assert "--max-lora-rank 8" in found[0].reason
        assert "adapters export acme/sql@v3 --flatten" in found[1].fix

    def test_what_cannot_be_judged_never_passes(self):
        assert {each.outcome for each in gate.judge(self.POLICY, V3)} == {Outcome.ERROR}
        old = replace(self.POLICY, serving=("vllm:0.1",))
        [found] = gate.judge(old, replace(V3, serving=PLAIN))
        assert (found.outcome, "not examined" in found.reason) == (Outcome.ERROR, True)


class TestPolicy:
    def test_a_policy_names_stacks_and_reads_back_the_same(self):
        policy = Policy("prod", serving=("vllm:0.33",))
        assert read_policy(to_yaml(policy)) == policy
        assert document(policy)["require"] == {"serving": ["vllm:0.33"]}

    def test_a_stack_that_no_rules_are_known_for_is_refused(self):
        text = json.dumps({**document(Policy("prod")), "require": {"serving": ["vllm:0.33", "tensorrt"]}})
        with pytest.raises(InvalidInput) as refused:
            read_policy(text)
        assert "tensorrt" in str(refused.value.problems[0])

    def test_lint_names_what_asks_nothing_what_is_old_and_what_is_unknown(self):
        advice = lint(Policy("prod", serving=("vllm:0.32", "vllm:0.33", "peft", "vllm:0.1")), ())
        assert [(each.rule, each.impossible) for each in advice] == [
            ("serving vllm:0.32", False),
            ("serving peft", False),
            ("serving vllm:0.1", True),
        ]


def experts(*parts, layers=(0, 1)):
    return [f"model.layers.{layer}.mlp.experts{part}" for layer in layers for part in parts]


ONE_BY_ONE = experts(*(f".{number}.{kind}" for number in range(4) for kind in ("gate_proj", "up_proj", "down_proj")))

UNGATED = experts(".0.up_proj", ".0.down_proj")


class TestExperts:
    @pytest.mark.parametrize(
        ("modules", "base", "found"),
        [
            (experts("", ".base_layer"), (), Experts(("mlp.experts",))),
            (experts(""), (), Experts(("mlp.experts",), halves=True)),
            ([*experts("", ".base_layer", layers=[0]), *experts("", layers=[1])], (), Experts(("mlp.experts",), True)),
            (["layers.3.experts", "layers.3.experts.base_layer"], (), Experts(("experts",))),
            (
                experts("", ".base_layer"),
                [f"{each}.weight" for each in ONE_BY_ONE],
                Experts(("mlp.experts",), single=("down_proj", "gate_proj", "up_proj")),
            ),
            (
                experts("", ".base_layer"),
                [f"layers.{layer}.moe.experts.0.w{kind}.weight" for layer in (0, 1) for kind in (1, 2, 3)],
                Experts(("mlp.experts",), single=("w1", "w2", "w3")),
            ),
            (experts("", ".base_layer"), [f"{each}.weight" for each in ONE_BY_ONE[:12]], Experts(("mlp.experts",))),
            (experts(""), [f"{each}.weight" for each in ONE_BY_ONE], Experts(("mlp.experts",), halves=True)),
            (ONE_BY_ONE, (), Experts(singly=True)),
            (
                [*ONE_BY_ONE, "model.layers.1.mlp.shared_expert.up_proj", "model.layers.0.self_attn.q_proj"],
                (),
                Experts(singly=True, namesakes=("up_proj",)),
            ),
            (experts(".0.gate_proj", ".0.down_proj"), (), Experts(singly=True, some=True, torn=True)),
            (ONE_BY_ONE[:-1], (), Experts(singly=True, some=True)),
            (experts(".0.gate_proj", ".0.up_proj"), (), Experts(singly=True, some=True)),
            (ONE_BY_ONE[:12], [f"{each}.weight" for each in ONE_BY_ONE], Experts(singly=True)),
            (UNGATED, [f"{each}.weight" for each in UNGATED], Experts(singly=True)),
            (ONE_BY_ONE, experts(".9.up_proj.qweight"), Experts(singly=True, some=True)),
            (["model.layers.0.mlp.shared_experts.up_proj", "model.layers.0.mlp.gate"], (), Experts()),
        ],
    )  # fmt: skip
    def test_stacks_are_told_from_experts_that_are_adapted_one_by_one(self, modules, base, found):
        assert experts_of(modules, base) == found
