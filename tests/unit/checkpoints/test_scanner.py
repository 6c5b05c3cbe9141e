"""The registry's own scanner: what it finds, and which honest files it leaves alone."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save

from adapter_registry.checkpoints.scanner import scanned
from tests.adapter_builders import Bytes


class Calling:
    """What runs something when it is unpickled."""

    def __reduce__(self):
        return (print, ("ran",))


def codes(path: str, data: bytes | object) -> list[str]:
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    return [each.code for each in scanned([Bytes(path, content)])]


def archive(before: bytes, comment: bytes = b"") -> bytes:
    made = io.BytesIO()
    made.write(before)
    with zipfile.ZipFile(made, "a") as inside:
        inside.writestr("data.pkl", "x")
        inside.comment = comment
    return made.getvalue()


WEIGHTS = save({"a": np.arange(64, dtype=np.float32)})


class TestClean:
    def test_files_as_they_are_saved(self, lora_folder, llama_folder):
        files = [Bytes(str(each.name), each.read_bytes()) for each in (*lora_folder.iterdir(), *llama_folder.iterdir())]
        assert len(files) > 4
        assert scanned(files) == ()

    @pytest.mark.parametrize(
        "text",
        [
            "{% for m in messages %}{{ m['role'] }}: {{ m.content | trim }}{% endfor %}",
            "{%- if tools is defined %}{{ raise_exception('no') }}{% endif %}{{ bos_token }}",
            "{# attributes, imports and includes are words #}{{ 'from import' }}",
        ],
    )
    def test_templates_that_only_say_what_messages_are(self, text):
        assert codes("chat_template.jinja", text.encode()) == []
        assert codes("tokenizer_config.json", {"chat_template": [{"name": "default", "template": text}]}) == []

    @pytest.mark.parametrize(
        ("path", "data"),
        [
            ("vocab.txt", b"cat\ndog\nRed\n."),
            ("LICENSE", b"copyright\nholder\nRedistribution is permitted."),
            ("README.md", b"PK\x05\x06 is how the end of a zip archive begins" + b"." * 30),
            ("config.json", b'{"auto_map": null, "trust_remote_code": false}'),
            ("logo.svg", b"<svg><path d='M0 0'/></svg>"),
            ("notes.txt", pickle.dumps([1, {"a": 2}], protocol=0)),
        ],
    )
    def test_what_looks_like_something_and_is_none(self, path, data):
        assert codes(path, data) == []


class TestFound:
    @pytest.mark.parametrize("comment", [b"", b"c" * 65_535])
    def test_an_archive_at_the_end_of_any_file(self, comment):
        assert codes("README.md", archive(b"# An honest card\n", comment)) == ["hidden-archive"]

    def test_an_archive_in_the_values_of_a_tensor(self):
        hidden = archive(b"")
        padded = hidden.rjust(-(-len(hidden) // 4) * 4, b"\0")
        weights = save({"a": np.frombuffer(padded, dtype=np.float32)})
        assert zipfile.is_zipfile(io.BytesIO(weights))
        assert codes("adapter_model.safetensors", weights) == ["hidden-archive"]

    @pytest.mark.parametrize("protocol", range(6))
    def test_a_pickle_that_calls_something(self, protocol):
        data = pickle.dumps(Calling(), protocol=protocol)
        assert codes("merges.txt", data) == ["hidden-pickle"]
        assert codes("merges.txt", data[:-1] + b"\xff broken after it ran") == ["hidden-pickle"]

    @pytest.mark.parametrize("path", ["config.json", "deep/preprocessor_config.json"])
    @pytest.mark.parametrize(
        "document",
        [{"auto_map": {"AutoModel": "x--y.Z"}}, {"a": [{"custom_pipelines": {"p": {}}}]}, {"trust_remote_code": True}],
    )
    def test_settings_that_name_code_wherever_they_stand(self, path, document):
        assert codes(path, document) == ["names-code"]

    @pytest.mark.parametrize(
        "text",
        [
            "{{ ''.__class__.__mro__ }}",
            "{{ x | attr('y') }}",
            r"{{ x['\x5f\x5fclass'] }}",
            "{%- include 'other' %}",
            "{% from 'a' import b %}",
        ],
    )
    def test_templates_that_reach_beyond_what_they_are_given(self, text):
        assert codes("chat_template.jinja", text.encode()) == ["template-reaches"]
        assert codes("additional_chat_templates/tools.jinja", text.encode()) == ["template-reaches"]
        assert codes("tokenizer_config.json", {"chat_template": text}) == ["template-reaches"]
        assert codes("x.json", {"chat_template": [{"name": "default", "template": text}]}) == ["template-reaches"]

    @pytest.mark.parametrize("data", [b"<svg><script>x</script>", b"<svg onload='x'/>", b"<a href='javascript:x'>"])
    def test_pictures_with_scripts(self, data):
        assert codes("logo.svg", data) == ["active-image"]

    @pytest.mark.parametrize("data", [b"", b"x" * 100, WEIGHTS + b"\0", b"\xff" * 8 + WEIGHTS])
    def test_weights_that_peft_would_not_read_and_others_would(self, data):
        assert codes("extra/other.safetensors", data) == ["bad-header"]

    def test_another_adapter_inside(self):
        assert codes("inner/adapter_config.json", {"peft_type": "LORA"}) == ["nested-adapter"]
        assert codes("adapter_config.json", {"peft_type": "LORA"}) == []

    def test_json_that_is_none(self):
        assert codes("config.json", b"{") == codes("config.json", b"[" * 100_000) == ["unreadable-json"]
