"""What the tests of refusals share: how a refusal is expected, and changes that spoil an adapter's tensors."""

from __future__ import annotations

import pytest

from adapter_registry.checkpoints.intake import examine_folder, refuse
from adapter_registry.domain.errors import PushRefused
from adapter_registry.domain.problem_codes import CODES

Q0 = "base_model.model.model.layers.0.self_attn.q_proj"
A0, B0 = f"{Q0}.lora_A.weight", f"{Q0}.lora_B.weight"


def refusal(folder, base):
    """The PushRefused that pushing `folder` onto `base` ends with; it is built and printed."""
    with pytest.raises(PushRefused) as caught:
        refuse(examine_folder(folder, base)[1])
    problems = caught.value.problems
    assert str(caught.value).startswith(f"refused, {len(problems)} problem")
    for problem in problems:
        assert problem.code in CODES
        assert problem.file
        assert problem.expected
        assert problem.found
        assert problem.fix
    return caught.value


def expect(folder, base, code, fragment=""):
    refused = refusal(folder, base)
    assert code in {problem.code for problem in refused.problems}
    assert fragment in str(refused)


def value(name, number):
    def change(tensors):
        tensors[name].view(-1)[3] = number

    return change


def put(name, tensor):
    return lambda tensors: tensors.__setitem__(name, tensor)


def drop(*names):
    def change(tensors):
        for name in names:
            del tensors[name]

    return change
