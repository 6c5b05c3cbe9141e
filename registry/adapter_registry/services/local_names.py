"""Which ids of repositories are this registry's alone, so that nothing from elsewhere ever takes their place."""

from __future__ import annotations

from adapter_registry.domain.names import DEFAULT_NAMESPACE
from adapter_registry.domain.ports import Backend, Transaction


def is_ours(backend: Backend, *, repo: str) -> bool:
    """Whether an id belongs here, in upper or lower case, whoever asks and whether or not there is anything of it.

    A namespace is ours when an adapter, a setting or a grant is in it, or an account has its name. Of ids without a
    namespace those are ours that the default namespace has an adapter for.
    """
    namespace, slash, _ = repo.partition("/")
    with backend.catalog.reading() as tx:
        if not slash:
            adapter = f"{DEFAULT_NAMESPACE}/{repo}"
            ids = (adapter, adapter.rpartition(".")[0])
            return any(tx.versions.spelled(each) is not None for each in ids if "/" in each)
        return namespace.casefold() in (DEFAULT_NAMESPACE, *_granted(tx)) or tx.stored_bases.local_namespace(namespace)


def _granted(tx: Transaction) -> set[str]:
    accounts = tx.accounts.all()
    scopes = {grant.scope.partition("/")[0] for account in accounts for grant in account.grants}
    return {name.casefold() for name in (*scopes, *(account.name for account in accounts))}
