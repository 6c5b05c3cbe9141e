"""A merged checkpoint is complete, laid out like its base, written whole or not at all, and says what survived."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.domain.errors import Conflict, InvalidInput, StoreFull, Unsupported
from adapter_registry.tensors.merging import write as merge_write
from adapter_registry.tensors.merging.merge import Ingredient, merge
from tests.adapter_builders import adapter, llama
from tests.unit.tensors.merging import adapted, base_of, by_us, different, loaded, logits


def lora(**changes):
    from peft import LoraConfig

    return LoraConfig(**{"r": 4, "lora_alpha": 7, "target_modules": ["q_proj", "down_proj"], **changes})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """In four files, bfloat16."""
    folder = base_of(tmp_path_factory.mktemp("base") / "base", "bfloat16")
    loaded(folder).save_pretrained(folder, max_shard_size="12KB")
    (folder / "model.safetensors").unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory, base):
    return adapter(tmp_path_factory.mktemp("adapter") / "lora", base, lora())


@pytest.fixture(scope="module")
def other(tmp_path_factory, base):
    folder = tmp_path_factory.mktemp("adapter") / "other"
    return adapter(folder, base, lora(r=2, target_modules=["q_proj", "up_proj"], use_rslora=True))


def tensors(folder: Path) -> dict:
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found


def deltas(base: Path, folder: Path, weight: float) -> dict:
    """weight · scale · B · A of each layer in float64, by the name of its tensor."""
    from adapter_registry.tensors.loaded import loaded as opened

    with opened(folder, read_base(base, cache=None, progress=lambda _: None)) as found:
        pairs = {layer.tensor.name: layer.pair() for layer in found.layers}
        return {n: weight * p.scale * p.up.astype(np.float64) @ p.down.astype(np.float64) for n, p in pairs.items()}


class TestLayout:
    def test_files_and_what_is_in_them_are_the_bases(self, tmp_path, base, plain):
        by_us(base, tmp_path / "out", plain)
        ours = {path.name: path.stat().st_size for path in (tmp_path / "out").glob("model*")}
        assert ours == {path.name: path.stat().st_size for path in base.glob("model*")}
        assert (tmp_path / "out" / "tokenizer_config.json").read_text() == "{}"
        assert (tmp_path / "out" / "config.json").read_bytes() == (base / "config.json").read_bytes()

    def test_digests_are_those_of_the_files(self, tmp_path, base, plain):
        merged = by_us(base, tmp_path / "out", plain)
        read = read_base(tmp_path / "out", cache=None, progress=lambda _: None)
        assert [(f.name, f.size, f.sha256) for f in merged.files] == [(f.path, f.size, f.sha256) for f in read.files]

    def test_a_file_that_no_adapter_touches_is_the_bases_byte_for_byte(self, tmp_path, base):
        merged = by_us(base, tmp_path / "out", adapter(tmp_path / "head", base, lora(target_modules=["lm_head"])))
        names = [file.name for file in merged.files]
        same = [n for n in names if (base / n).read_bytes() == (tmp_path / "out" / n).read_bytes()]
        assert 0 < len(same) < len(names)

    @pytest.mark.parametrize("workers", [1, 2, 3, 8])
    def test_the_number_of_workers_changes_no_byte(self, tmp_path, base, plain, workers):
        merged = by_us(base, tmp_path / "out", plain, workers=workers)
        assert merged.files == by_us(base, tmp_path / "one", plain, workers=1).files

    def test_largest_files_can_be_asked_for(self, tmp_path, base, plain):
        by_us(base, tmp_path / "out", plain, shard=8_000)
        files = sorted((tmp_path / "out").glob("*.safetensors"))
        assert files[0].name == f"model-00001-of-{len(files):05}.safetensors"
        assert len(files) > len(list(base.glob("*.safetensors")))
        by_us(base, tmp_path / "whole", plain, shard=10_000_000)
        assert [path.name for path in (tmp_path / "whole").glob("model*")] == ["model.safetensors"]
        assert different(loaded(tmp_path / "out"), loaded(tmp_path / "whole")) == []

    def test_another_type_keeps_what_bfloat16_rounds_away(self, tmp_path, base, plain):
        merged = by_us(base, tmp_path / "out", plain, dtype="float32")
        found = loaded(tmp_path / "out")
        assert found.dtype == torch.float32
        assert merged.kept > 0.999999
        expected = logits(adapted(base, plain, dtype=torch.float32))
        assert torch.allclose(logits(found), expected, atol=1e-5)

    def test_a_dry_run_writes_nothing(self, tmp_path, base, plain):
        record = read_base(base, cache=None, progress=lambda _: None)
        told = merge(record, base, [Ingredient(plain)], tmp_path / "out", dry=True)
        assert told.folder is None
        assert told.estimate.size == sum(path.stat().st_size for path in base.glob("*.safetensors"))
        assert list(tmp_path.iterdir()) == []

    def test_what_exists_is_not_overwritten(self, tmp_path, base, plain):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").touch()
        with pytest.raises(Conflict, match="exists already; nothing was written"):
            by_us(base, tmp_path / "out", plain)

    @pytest.mark.parametrize("options", [{"dtype": "int8"}, {"accumulate": "float64"}, {"shard": 1}, {"workers": 0}])
    def test_values_that_no_merge_has_are_refused(self, tmp_path, base, plain, options):
        with pytest.raises(InvalidInput):
            by_us(base, tmp_path / "out", plain, **options)


class TestSeveral:
    def test_the_sum_of_the_deltas_is_rounded_once(self, tmp_path, base, plain, other):
        by_us(base, tmp_path / "out", plain, other, weights=(0.75, -0.5))
        ours, before = tensors(tmp_path / "out"), tensors(base)
        first, second = deltas(base, plain, 0.75), deltas(base, other, -0.5)
        for name in first.keys() | second.keys():
            truth = before[name].double().numpy() + first.get(name, 0) + second.get(name, 0)
            nearest = torch.from_numpy(truth).bfloat16().double().numpy()
            assert np.mean(ours[name].double().numpy() != nearest) < 1e-3, name

    def test_the_order_does_not_matter(self, tmp_path, base, plain, other):
        one = by_us(base, tmp_path / "a", plain, other, dtype="float32")
        by_us(base, tmp_path / "b", other, plain, dtype="float32")
        left, right = tensors(tmp_path / "a"), tensors(tmp_path / "b")
        assert all(torch.allclose(left[name], right[name], rtol=1e-6, atol=1e-7) for name in left)
        assert len(one.modules) == 6

    def test_the_order_of_doras_does_not_matter_either(self, tmp_path, base):
        doras = [adapter(tmp_path / str(r), base, lora(r=r, use_dora=True)) for r in (2, 4)]
        by_us(base, tmp_path / "a", *doras, dtype="float32")
        by_us(base, tmp_path / "b", *doras[::-1], dtype="float32")
        left, right = tensors(tmp_path / "a"), tensors(tmp_path / "b")
        assert all(torch.allclose(left[name], right[name], rtol=1e-6, atol=1e-7) for name in left)

    def test_an_adapter_of_weight_zero_changes_nothing(self, tmp_path, base, plain):
        by_us(base, tmp_path / "out", plain, weights=(0.0,))
        assert different(loaded(tmp_path / "out"), loaded(base)) == []

    def test_replaced_parameters_come_from_one_adapter_only(self, tmp_path, base):
        saved = [adapter(tmp_path / name, base, lora(modules_to_save=["norm"])) for name in ("a", "b")]
        with pytest.raises(Unsupported, match=r"norm.*one adapter that replaces it"):
            by_us(base, tmp_path / "out", *saved)
        with pytest.raises(Unsupported, match="weight 1, as it replaces"):
            by_us(base, tmp_path / "out", saved[0], weights=(0.5,))


class TestSurvival:
    @pytest.mark.parametrize("size", [0.1, 0.003])
    def test_the_figures_are_those_measured_in_float64(self, tmp_path, base, plain, size):
        merged = by_us(base, tmp_path / "out", plain, weights=(size,))
        ours, before, exact = tensors(tmp_path / "out"), tensors(base), deltas(base, plain, size)
        for module in merged.modules:
            weight, delta = before[module.tensor].double().numpy(), exact[module.tensor]
            moved = ours[module.tensor].double().numpy() - weight
            assert module.sampled == 1
            assert module.relative == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(weight), rel=1e-5)
            assert module.error == pytest.approx(np.linalg.norm(moved - delta) / np.linalg.norm(delta), rel=1e-4)
            assert module.moved == np.mean(moved != 0)

    def test_little_that_survives_is_warned_of(self, tmp_path, base, plain):
        merged = by_us(base, tmp_path / "out", plain, weights=(0.001,))
        assert merged.kept < 0.75
        assert [notice.code for notice in merged.notices] == ["little-survived"]
        assert by_us(base, tmp_path / "wide", plain, weights=(0.001,), dtype="float32").notices == ()

    def test_merging_into_a_merge_is_warned_of(self, tmp_path, base, plain, other):
        by_us(base, tmp_path / "first", plain)
        second = by_us(tmp_path / "first", tmp_path / "second", other)
        assert [notice.code for notice in second.notices] == ["chained-merge"]
        read = read_base(tmp_path / "first", cache=None, progress=lambda _: None)
        assert [notice.code for notice in read.notices] == ["merged-from"]


def test_a_new_head_makes_a_classifier(tmp_path, base):
    from transformers import AutoModelForSequenceClassification

    config = lora(task_type="SEQ_CLS", target_modules=["q_proj"])

    def classifier(folder):
        return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)

    folder = adapter(tmp_path / "adapter", base, config, load=classifier)
    by_us(base, tmp_path / "out", folder)
    found = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    head = tensors(folder)["base_model.model.score.weight"]
    assert type(found).__name__ == "LlamaForSequenceClassification"
    assert torch.equal(found.score.weight, head.to(found.score.weight.dtype))


def test_a_longer_vocabulary_is_the_adapters(tmp_path, base):
    def longer(folder):
        model = loaded(folder)
        model.resize_token_embeddings(70, mean_resizing=False)
        return model

    config = lora(target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    folder = adapter(tmp_path / "adapter", base, config, load=longer)
    by_us(base, tmp_path / "out", folder)
    found = loaded(tmp_path / "out")
    assert found.config.vocab_size == 70
    assert found.model.embed_tokens.weight.shape[0] == found.lm_head.weight.shape[0] == 70
    assert json.loads((base / "config.json").read_text())["vocab_size"] == 64


def test_a_quantised_base_is_refused_with_the_reason(tmp_path, base, plain):
    spoiled = shutil.copytree(base, tmp_path / "base")
    config = json.loads((spoiled / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (spoiled / "config.json").write_text(json.dumps(config))
    with pytest.raises(Unsupported, match="gptq: what is added would be rounded"):
        by_us(spoiled, tmp_path / "out", plain)


MERGE = """
import sys
from pathlib import Path
from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.tensors.merging import write as merge_write
from adapter_registry.tensors.merging.merge import Ingredient, Options, merge
base, adapter, out = map(Path, sys.argv[1:])
def slowly(*told, begin=merge_write.Pieces):
    print("begins", flush=True)
    import time; time.sleep(0.15)
    return begin(*told)
merge_write.Pieces = slowly
record = read_base(base, cache=None, progress=lambda _: None)
merge(record, base, [Ingredient(adapter)], out, options=Options(workers=1))
"""


def recipe_of(base, plain, out, monkeypatch):
    """What the journal of such a merge begins with."""
    found = []
    with monkeypatch.context() as patch:
        aside = merge_write.aside
        patch.setattr("adapter_registry.tensors.merging.merge.aside", lambda o, r: found.append(r) or aside(o, r))
        by_us(base, out, plain)
    return found[0]


class TestInterrupted:
    def test_a_killed_merge_goes_on_with_what_it_had_finished(self, tmp_path, base, plain, monkeypatch):
        out = tmp_path / "out"
        command = [sys.executable, "-c", MERGE, str(base), str(plain), str(out)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not out.exists()
        written = []
        begin = merge_write.Pieces
        monkeypatch.setattr(
            merge_write, "Pieces", lambda path, file, *told: written.append(file.name) or begin(path, file, *told)
        )
        merged = by_us(base, out, plain)
        assert 0 < len(written) < len(merged.files)
        assert merged.files == by_us(base, tmp_path / "again", plain).files
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    def test_a_finished_file_that_was_changed_since_is_made_again(self, tmp_path, base, plain, monkeypatch):
        place = tmp_path / ".out.merging"
        whole = by_us(base, tmp_path / "whole", plain)
        shutil.copytree(tmp_path / "whole", place)
        spoiled = place / whole.files[0].name
        spoiled.write_bytes(bytes(spoiled.stat().st_size))
        lines = [{"recipe": "?"}, *({"file": f.name, "size": f.size, "sha256": f.sha256} for f in whole.files)]
        lines[0]["recipe"] = recipe_of(base, plain, tmp_path / "recipe", monkeypatch)
        (place / merge_write.JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert by_us(base, tmp_path / "out", plain).files == whole.files
        assert spoiled.name in {path.name for path in (tmp_path / "out").iterdir()}
        assert (tmp_path / "out" / spoiled.name).read_bytes() == (tmp_path / "whole" / spoiled.name).read_bytes()

    def test_another_recipe_starts_anew(self, tmp_path, base, plain):
        place = tmp_path / ".out.merging"
        place.mkdir()
        (place / merge_write.JOURNAL).write_text('{"recipe": "another"}\n{"file": "x", "size": 1, "sha256": ""}\n')
        (place / "left-over").touch()
        by_us(base, tmp_path / "out", plain)
        assert not (tmp_path / "out" / "left-over").exists()

    def test_two_merges_into_one_folder_do_not_meet(self, tmp_path, base, plain):
        command = [sys.executable, "-c", MERGE, str(base), str(plain), str(tmp_path / "out")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(Conflict, match="another process is merging"):
            by_us(base, tmp_path / "out", plain)
        process.communicate()
        assert process.returncode == 0


class TestFullDisk:
    def test_too_little_space_is_told_before_anything_is_written(self, tmp_path, base, plain, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
        with pytest.raises(StoreFull, match="nothing was written"):
            by_us(base, tmp_path / "out", plain)
        assert not (tmp_path / "out").exists()

    def test_a_disk_that_fills_up_leaves_nothing_behind(self, tmp_path, base, plain):
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        largest = max(path.stat().st_size for path in base.glob("*.safetensors"))
        by_us(base, tmp_path / "warm", plain)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1000, limit[1]))
        try:
            with pytest.raises(StoreFull, match=r"no space left\. Nothing was left behind"):
                by_us(base, tmp_path / "out", plain)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert [path.name for path in tmp_path.iterdir()] == ["warm"]


ANONYMOUS = """
import sys
from pathlib import Path
from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.tensors.merging.merge import Ingredient, Options, merge
base, adapter, out = map(Path, sys.argv[1:])
record = read_base(base, cache=None, progress=lambda _: None)
def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return max(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
most = [anonymous()]
merge(record, base, [Ingredient(adapter)], out, options=Options(workers=2), progress=lambda _: most.append(anonymous()))
print(max(most) - most[0])
"""


def test_memory_does_not_grow_with_the_number_of_layers(tmp_path):
    grown = []
    for layers in (2, 12):
        shape = {"num_hidden_layers": layers, "hidden_size": 256, "intermediate_size": 1024}
        base = llama(tmp_path / f"base{layers}", **shape)
        folder = adapter(tmp_path / f"adapter{layers}", base, lora(target_modules="all-linear"))
        done = subprocess.run(
            [sys.executable, "-c", ANONYMOUS, str(base), str(folder), str(tmp_path / f"out{layers}")],
            capture_output=True,
            check=True,
        )
        grown.append(int(done.stdout))
    assert grown[1] - grown[0] < 4_000, grown
