"""Whatever is done to an adapter's config and weights, intake answers; it never raises."""

from __future__ import annotations

import copy
import json
import random
import struct

import pytest

from adapter_registry.checkpoints.intake import examine
from adapter_registry.domain.problem_codes import CODES
from tests.adapter_builders import CONFIG, WEIGHTS, Bytes

ROUNDS = 400
JUNK = [
    None, True, 0, 1, -1, 2**53, 2**70, 1.5, 1e308, "", "x", "q_proj", ".*", "(", [], [1], ["q_proj"], [["a"]], {},
    {"a": 1}, {"q_proj": 4}, [[0, 2]], "LORA", "IA3", "PREFIX_TUNING", "PROMPT_TUNING", "ADALORA", [None], {"": 0},
    "\x00", "\ud800", "é" * 100, [0, 4], "F16", "I64",
]  # fmt: skip
FIELDS = ["target_parameters", "trainable_token_indices", "layer_replication", "rank_pattern", "num_virtual_tokens"]


class Mutation:
    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def junk(self):
        return copy.deepcopy(self.chance.choice(JUNK))

    def config(self, text: bytes) -> bytes:
        document = json.loads(text)
        for _ in range(self.chance.randint(0, 4)):
            document[self.chance.choice([*document, *FIELDS])] = self.junk()
        changed = json.dumps(document).encode()
        return changed[: self.chance.randrange(len(changed))] if self.chance.random() < 0.05 else changed

    def weights(self, data: bytes) -> bytes:
        if self.chance.random() < 0.4:
            spoiled = bytearray(data)
            for _ in range(self.chance.randint(0, 3)):
                spoiled[self.chance.randrange(len(spoiled))] = self.chance.randrange(256)
            return bytes(spoiled)
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        for _ in range(self.chance.randint(1, 3)):
            self.entry(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    def entry(self, header: dict) -> None:
        name = self.chance.choice([*header, "new"])
        value = header.get(name)
        kind = self.chance.random()
        if kind < 0.3 and isinstance(value, dict):
            value[self.chance.choice(["dtype", "shape", "data_offsets"])] = self.junk()
        elif kind < 0.6:
            renamed = [f"base_model.model.{name}", f"{name}.base_layer.weight", name.replace("layers.0", "layers.7")]
            header[self.chance.choice([*renamed, "evil", name[:-1]])] = header.pop(name, self.junk())
        elif kind < 0.8:
            header.pop(name, None)
        else:
            header[name] = self.junk()


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_adapter_ends_in_an_examination(seed, lora_folder, llama_base):
    mutation = Mutation(random.Random(seed))
    config, weights = (lora_folder / CONFIG).read_bytes(), (lora_folder / WEIGHTS).read_bytes()
    refused = 0
    for _ in range(ROUNDS):
        files = [Bytes(CONFIG, mutation.config(config)), Bytes(WEIGHTS, mutation.weights(weights))]
        examination = examine(files, llama_base)
        refused += bool(examination.problems)
        for problem in examination.problems:
            assert problem.code in CODES
            assert str(problem)
    assert 0 < refused <= ROUNDS
