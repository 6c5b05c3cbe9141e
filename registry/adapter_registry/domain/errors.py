"""The error tree: every refusal has a stable code, an HTTP status, an exit code and a text that says the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why something was refused, precise enough to act on.

    Attributes:
        code: stable, kebab-case, e.g. `rank-mismatch`; documented in docs/errors.md.
        file: the file concerned, relative to the pushed folder; empty when none is.
        field: the config field or tensor concerned; empty when the file as a whole is.
        expected: what the rule asks for, with values.
        found: what was there, with values.
        fix: what to do next, one sentence.
    """

    code: str
    file: str
    field: str
    expected: str
    found: str
    fix: str

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.file, self.field) if part)
        return f"{where}{': ' if where else ''}expected {self.expected}, found {self.found}. {self.fix}"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something worth knowing that does not block: same fields as a Problem's place, one sentence of text."""

    code: str
    file: str
    field: str
    text: str

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.file, self.field) if part)
        return f"{where}: {self.text}" if where else self.text


class RegistryError(Exception):
    """Base of all errors the registry raises on purpose.

    `code` is for the API and for programs, `status` for HTTP, `exit_code` for the command line
    (docs/cli.md lists them). Subclasses set all three: there is no default. `wait_seconds` says after how long to ask
    again; None where that is no use.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    exit_code: ClassVar[int]
    wait_seconds: int | None = None

    def __init__(self, text: str, *, problems: Sequence[Problem] = ()) -> None:
        super().__init__(text)
        self.text = text
        self.problems = tuple(problems)


class InvalidReference(RegistryError):
    """A name, reference, label or option value that no rule of the grammar accepts."""

    code, status, exit_code = "invalid-reference", 422, 2


class InvalidInput(RegistryError):
    """A document or value that is not what the operation reads."""

    code, status, exit_code = "invalid-input", 422, 2


class InvalidServing(InvalidInput):
    """A document of `adapters sync` or `adapters deploy` that is wrong, and stays so however often it is read."""

    code, status, exit_code = "serving-invalid", 422, 8


class NotFound(RegistryError):
    """A name that means nothing here."""

    code, status, exit_code = "not-found", 404, 1


class Ambiguous(RegistryError):
    """A prefix or name that means several things; the text lists them."""

    code, status, exit_code = "ambiguous", 409, 2


class Conflict(RegistryError):
    """The state moved, or a name is taken."""

    code, status, exit_code = "conflict", 409, 1


class InUse(RegistryError):
    """Something points at what was to be removed."""

    code, status, exit_code = "in-use", 409, 1


class PushRefused(RegistryError):
    """An adapter folder that fails intake; `problems` lists every reason at once."""

    code, status, exit_code = "push-refused", 422, 7


class IncompatibleBase(RegistryError):
    """The adapter is locked to another base checkpoint; `problems` lists the differences."""

    code, status, exit_code = "incompatible-base", 409, 6


class DigestMismatch(RegistryError):
    """Bytes that are not what their digest says; nothing of them was kept."""

    code, status, exit_code = "digest-mismatch", 422, 7

    def __init__(self, path: str, *, declared: str, received: str, size: int) -> None:
        super().__init__(
            f"{path}: declared sha256 {declared.removeprefix('sha256:')[:12]}, but the {size:,} bytes received are "
            f"{received.removeprefix('sha256:')[:12]}; nothing was stored. Try again; if it happens twice, "
            "the source is damaged."
        )
        self.path, self.declared, self.received, self.size = path, declared, received, size


class PromotionRefused(RegistryError):
    """One or more gates failed; the decision lists every blocker."""

    code, status, exit_code = "promotion-refused", 409, 3


class PromotionWaiting(RegistryError):
    """No gate failed, but something is still missing."""

    code, status, exit_code = "promotion-waiting", 409, 4


class PromotionUndecided(RegistryError):
    """The evidence cannot decide: inconclusive or incomparable."""

    code, status, exit_code = "promotion-undecided", 409, 5


class StoreUnavailable(RegistryError):
    """The store cannot be used as it is: newer schema, damaged, read-only, network file system."""

    code, status, exit_code = "store-unavailable", 503, 1


class StoreBusy(RegistryError):
    """Another writer held the store for longer than we wait."""

    code, status, exit_code = "store-busy", 503, 1


class StoreFull(RegistryError):
    """No space left for the bytes; nothing half written was kept."""

    code, status, exit_code = "store-full", 507, 1


class Unsupported(RegistryError):
    """A thing that is understood and not done, with the reason."""

    code, status, exit_code = "unsupported", 422, 1


class Unauthorised(RegistryError):
    """A request without the server's token."""

    code, status, exit_code = "unauthorised", 401, 1

    def __init__(
        self,
        text: str = "the server wants a token: `adapters login`, or ADAPTERS_TOKEN of `adapters token create`.",
    ) -> None:
        super().__init__(text)


class IdentityRefused(RegistryError):
    """What a provider signed, or what came back from it, does not let its bearer in; `problems` lists claims.

    Attributes:
        whose: the account that it was about, where that is known.
        recorded: what the audit log says: the text without what others than we wrote into it.
    """

    code, status, exit_code = "identity-refused", 401, 1

    def __init__(self, text: str, *, problems: Sequence[Problem] = (), whose: str = "", recorded: str = "") -> None:
        super().__init__(text, problems=problems)
        self.whose, self.recorded = whose, recorded or text


class IssuerUnavailable(RegistryError):
    """An OpenID provider that cannot be reached, or answers what is none of its documents."""

    code, status, exit_code = "issuer-unavailable", 503, 1


class Forbidden(RegistryError):
    """A token that is good, for something that it may not do to what it can see."""

    code, status, exit_code = "forbidden", 403, 1


class Revoked(RegistryError):
    """A version that was withdrawn: it keeps its number and its record, and is not served any more."""

    code, status, exit_code = "revoked", 410, 1


class TooLarge(RegistryError):
    """A request with more bytes than are read."""

    code, status, exit_code = "too-large", 413, 1


class OutsideFile(RegistryError):
    """A range that begins where the file has ended."""

    code, status, exit_code = "range-not-satisfiable", 416, 1

    def __init__(self, path: str, *, size: int) -> None:
        super().__init__(f"{path} has {size:,} bytes; the range begins after its end.")
        self.path, self.size = path, size


class UntrustedPointer(RegistryError):
    """What a server says that a stage points to cannot be believed: forged, replayed or expired."""

    code, status, exit_code = "untrusted-pointer", 409, 7


class SignatureRefused(RegistryError):
    """A signature that does not count: of other bytes, of a key that is not trusted, or of none."""

    code, status, exit_code = "signature-refused", 422, 7


class BrokenChain(RegistryError):
    """An audit log in which an event does not follow from the one before."""

    code, status, exit_code = "broken-chain", 409, 7


class TooMany(RegistryError):
    """Passwords that were wrong too often, of one account or from one address."""

    code, status, exit_code = "too-many", 429, 1

    def __init__(self, text: str, *, wait_seconds: int = 1) -> None:
        super().__init__(text)
        self.wait_seconds = wait_seconds


class TooSlow(RegistryError):
    """A request whose bytes stopped coming."""

    code, status, exit_code = "too-slow", 408, 1


class MalformedRequest(RegistryError):
    """Bytes that are no request of HTTP/1.1, or whose end is doubtful; the connection is closed."""

    code, status, exit_code = "malformed-request", 400, 1


class Misdirected(RegistryError):
    """A request to a name that this server is not known by."""

    code, status, exit_code = "misdirected", 421, 1


class NotAllowed(RegistryError):
    """A method that an address does not have."""

    code, status, exit_code = "method-not-allowed", 405, 1


class Defect(RegistryError):
    """A mistake of this program; its operator finds the cause in the log, by the request's id."""

    code, status, exit_code = "defect", 500, 1


class JobFailed(RegistryError):
    """A job's computation that came to nothing: too much memory or time, or an error of its own."""

    code, status, exit_code = "job-failed", 422, 1


class Taken(RegistryError):
    """Work that another worker has begun with, or that was cancelled: nothing its first worker does counts any more."""

    code, status, exit_code = "taken", 409, 1


class ServerUnreachable(RegistryError):
    """The server that ADAPTERS_URL names does not answer, or answers something else."""

    code, status, exit_code = "server-unreachable", 503, 1
