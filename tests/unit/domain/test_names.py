"""Names that could mean two things are refused at the door."""

import pytest

from adapter_registry.domain.errors import InvalidReference
from adapter_registry.domain.names import check_base_name, check_label, check_namespace, check_tag


@pytest.mark.parametrize("name", ["candidate", "ab-arm-b", "best_so.far"])
def test_a_tag_is_a_free_name(name):
    assert check_tag(name) == name


@pytest.mark.parametrize("name", ["prod", "staging", "dev"])
def test_a_tag_can_never_be_a_stage(name):
    with pytest.raises(InvalidReference, match="adapters promote"):
        check_tag(name)


@pytest.mark.parametrize(
    "name", ["v3", "1.2.0", "1", "deadbeef", "HEAD", "main", "latest", "a/b", "..", "", "a@b", "x" * 200]
)
def test_a_tag_can_never_read_as_a_version_a_digest_or_a_reserved_word(name):
    with pytest.raises(InvalidReference):
        check_tag(name)


def test_a_base_may_be_named_as_on_the_hub():
    assert check_base_name("mistralai/Mistral-7B-v0.3") == "mistralai/Mistral-7B-v0.3"
    with pytest.raises(InvalidReference):
        check_base_name("a/b/c")


@pytest.mark.parametrize(("key", "value"), [("License", "x"), ("", "x"), ("a b", "x"), ("a", "x\ny"), ("a", "x" * 300)])
def test_a_label_that_could_break_a_table_or_a_query_is_refused(key, value):
    with pytest.raises(InvalidReference):
        check_label(key, value)


@pytest.mark.parametrize("name", ["api", "xet", "Datasets", "spaces", "kernels", "auth", "health", "ready", "metrics"])
def test_a_namespace_is_not_what_an_address_begins_with(name):
    with pytest.raises(InvalidReference, match="addresses"):
        check_namespace(name)
