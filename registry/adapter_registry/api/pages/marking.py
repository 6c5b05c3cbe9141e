"""What is said about a version for good or for now: tags, labels, withdrawing and removing it."""

from __future__ import annotations

from adapter_registry.api.pages.confirming import Question, confirming
from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown, of_adapter, of_version
from adapter_registry.domain.digest import short
from adapter_registry.domain.errors import RegistryError
from adapter_registry.services import mark, show


def tags(ask: Ask) -> Answer:
    """The tags of a version, each with a button that removes it, and a field for another."""
    return Shown("tags.html", _values(ask, "tags"))


def tagged(ask: Ask) -> Answer:
    """Set a tag, or remove one."""
    name = ask.form.get("name", "").strip()
    try:
        if ask.form.get("do") == "remove":
            ask.call(mark.untag, adapter=ask.adapter, name=name, seen=ask.number("number"))
            return Moved(of_adapter(ask.adapter), f"The tag {name} is removed.")
        version, before = ask.call(mark.tag, reference=ask.reference, name=name)
    except RegistryError as error:
        return _refused(ask, "tags.html", "tags", error)
    moved = f", and no more at v{before.number}" if before and before.number != version.number else ""
    return Moved(of_adapter(ask.adapter), f"{name} points at v{version.number} now{moved}.")


def labels(ask: Ask) -> Answer:
    """The labels of a version, each with a button that removes it, and fields for another."""
    return Shown("labels.html", _values(ask, "labels"))


def labelled(ask: Ask) -> Answer:
    """Set a label, or remove one."""
    key, value = ask.form.get("key", "").strip(), ask.form.get("value", "").strip()
    gone = ask.form.get("do") == "remove"
    try:
        version = ask.call(mark.label, reference=ask.reference, labels={key: None if gone else value})
    except RegistryError as error:
        return _refused(ask, "labels.html", "labels", error)
    said = f"{version.reference} has no label {key} any more." if gone else f"{version.reference} has {key}={value}."
    return Moved(of_version(ask.adapter, version.number), said)


def _removal(ask: Ask) -> Question:
    version = ask.call(show.resolve, reference=ask.reference)
    derived = ask.call(show.derived, reference=ask.reference)
    pointers = (*(f"stage {each}" for each in version.stages), *(f"tag {each}" for each in version.tags))
    made = f" What was made of it stays: {', '.join(each.reference for each in derived[:5])}." if derived else ""
    return Question(
        f"Remove {version.reference}",
        (("Version", version.reference), ("Digest", version.digest), ("Pushed", f"by {version.created_by}")),
        (f"For good: nobody can pull it, and its number is never used again.{made}",),
        f"Remove {short(version.digest)}",
        of_version(ask.adapter, version.number),
        refused=f"{' and '.join(pointers)} points to it: move that first." if pointers else "",
    )


def _removed(ask: Ask) -> Moved:
    gone = ask.call(mark.remove, reference=ask.reference)
    return Moved(of_adapter(gone.adapter), f"{gone.reference} is removed.")


def revoking(ask: Ask) -> Answer:
    """What withdrawing a version means, and why it is done."""
    return Shown("revoke.html", _values(ask, "revoke"))


def revoked(ask: Ask) -> Answer:
    """Withdraw it for good."""
    try:
        version = ask.call(mark.revoke, reference=ask.reference, because=ask.form.get("reason", ""))
    except RegistryError as error:
        return _refused(ask, "revoke.html", "revoke", error)
    return Moved(of_adapter(ask.adapter), f"{version.reference} is revoked.")


def _refused(ask: Ask, template: str, page: str, error: RegistryError) -> Answer:
    return Shown(template, {**_values(ask, page), "error": error}, status=200 if ask.partial else error.status)


def _values(ask: Ask, page: str) -> dict[str, object]:
    version = ask.call(show.resolve, reference=ask.reference)
    verb = {"tags": "tag", "labels": "label", "revoke": "revoke"}[page]
    return {
        "version": version,
        "adapter": ask.adapter,
        "derived": ask.call(show.derived, reference=ask.reference) if page == "revoke" else (),
        "allowed": ask.may(verb, ask.adapter),
        "given": ask.form.get("name" if page == "tags" else "reason", ""),
        "error": None,
        "partial": ask.partial,
        "back": of_adapter(ask.adapter),
        "address": of_adapter(ask.adapter, "versions", version.number, page),
    }


_VERSION = "/adapters/{adapter_namespace}/{adapter_name}/versions/{number}"
PAGES = (
    Page(f"{_VERSION}/tags", tags, tagged),
    Page(f"{_VERSION}/labels", labels, labelled),
    Page(f"{_VERSION}/revoke", revoking, revoked),
    Page(f"{_VERSION}/remove", *confirming(_removal, _removed)),
)
