"""What is known of metrics by their names alone: which way is better, and which are averages of values in [0, 1]."""

from __future__ import annotations

import math
import re

from adapter_registry.domain.evidence.score import Direction


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


HIGHER = _words(
    "acc accuracy acc_all acc_bytes acc_mutual_info acc_norm acc_norm_token acc_per_char acc_per_token auc auroc "
    "average_precision balanced_accuracy bert_score bertscore bleu bleurt chrf chrf++ em exact exact_match "
    "extractive_match f1 f1_macro f1_micro f1_score f1_score_macro f1_score_micro f1_weighted inst_level_loose_acc "
    "inst_level_strict_acc loglikelihood_acc macro_f1 matthews_corrcoef math_verify mc1 mc2 mcc meteor micro_f1 mrr "
    "ndcg pem pqem precision prefix_exact_match prefix_quasi_exact_match prompt_level_loose_acc "
    "prompt_level_strict_acc qem quasi_exact_match r2 recall rouge rouge1 rouge2 rougel rougelsum roc_auc "
    "sacrebleu spearmanr weighted_f1 win_rate"
)
LOWER = _words(
    "bits_per_byte brier brier_score byte_perplexity cer cross_entropy ece loss mae mse nll perplexity ppl rmse "
    "target_perplexity ter token_perplexity wer word_perplexity"
)
RATES = _words(
    "acc accuracy acc_all acc_bytes acc_mutual_info acc_norm acc_norm_token em exact exact_match extractive_match "
    "inst_level_loose_acc inst_level_strict_acc loglikelihood_acc math_verify mc1 pass_rate pem pqem "
    "prefix_exact_match prefix_quasi_exact_match prompt_level_loose_acc prompt_level_strict_acc qem quasi_exact_match "
    "rate win_rate"
)

_FILTERED = re.compile(r"(?<=/)[^/@]*@")
"""From where a metric's own name ends: what a filter or scorer is called may hold `/`, as what a task is called may."""
_PASS_AT = re.compile(r"(\w+_)?(pass|maj|avg|cons)(@|_at_|\^)[0-9k]+.*")
_LOWER_SUFFIX = re.compile(r".*_(loss|perplexity|ppl|nll|wer|cer)")
_HIGHER_SUFFIX = re.compile(r".*_(acc|accuracy|acc_norm|exact_match)")


def last_name(metric: str) -> str:
    """The metric alone, in lower case: `exact_match` of `gsm8k/exact_match@strict-match`."""
    kept = _FILTERED.search(metric)
    name = (metric[kept.start() :] if kept else metric.rpartition("/")[2]).lower()
    return name if _PASS_AT.fullmatch(name) else name.partition("@")[0]


def known_direction(metric: str) -> Direction | None:
    """Which way is better, where the name leaves no doubt; None where it might."""
    name = last_name(metric)
    if name in HIGHER or _PASS_AT.fullmatch(name) or _HIGHER_SUFFIX.fullmatch(name):
        return Direction.HIGHER
    if name in LOWER or _LOWER_SUFFIX.fullmatch(name):
        return Direction.LOWER
    return None


def is_rate(metric: str) -> bool:
    """Whether it averages one value between 0 and 1 per sample, so that n bounds its standard error."""
    name = last_name(metric)
    return name in RATES or bool(_PASS_AT.fullmatch(name) or _HIGHER_SUFFIX.fullmatch(name))


def off_scale(metric: str, value: float) -> bool:
    """Whether a value is none that a rate can have, so that it is likely a percentage."""
    return is_rate(metric) and math.isfinite(value) and not -_ROUNDING <= value <= 1 + _ROUNDING


_ROUNDING = 1e-6
"""How far beyond 0 and 1 an average of shares may come to lie."""
