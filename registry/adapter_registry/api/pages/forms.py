"""Forms as browsers send them: fields, and files where a form has a place for some.

Not by Starlette's parser and python-multipart: that takes a form that was cut off for a whole one, without its last
part, and reads bytes that are no UTF-8 as Latin-1. Here both are no form, and nothing is done.
"""

from __future__ import annotations

from email.message import Message
from email.parser import HeaderParser
from urllib.parse import parse_qsl

from starlette.requests import Request

from adapter_registry.api.pages.page import Upload
from adapter_registry.api.requests import body
from adapter_registry.domain.errors import InvalidInput, TooLarge
from adapter_registry.domain.untrusted import has_nul

LARGEST_FORM = 1_000_000
LARGEST_WITH_FILES = 32_000_000
MOST_FIELDS = 1000
MOST_FILES = 20
LONGEST_BOUNDARY = 70
"""Of RFC 2046."""
_BREAK = b"\r\n"
Fields = dict[str, str]
Files = dict[str, tuple[Upload, ...]]


async def fields(request: Request) -> Fields:
    """The fields of a form without files; raises InvalidInput for what is none."""
    return _checked(_pairs(await body(request, limit=LARGEST_FORM)))


async def fields_and_files(request: Request) -> tuple[Fields, Files]:
    """The fields and files of a form; raises InvalidInput for what is none."""
    boundary = _boundary(request.headers.get("content-type", ""))
    if boundary is None:
        return await fields(request), {}
    return _parts(await body(request, limit=LARGEST_WITH_FILES), boundary)


def _pairs(data: bytes) -> Fields:
    try:
        return dict(parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError as error:
        raise _none() from error


def _boundary(media: str) -> bytes | None:
    """What separates the parts of multipart/form-data (RFC 7578); None for another type."""
    message = Message()
    message["content-type"] = media
    found = message.get_boundary()
    if message.get_content_type() != "multipart/form-data":
        return None
    if not found or not found.isascii() or len(found) > LONGEST_BOUNDARY:
        raise _none()
    return found.encode()


def _parts(data: bytes, boundary: bytes) -> tuple[Fields, Files]:
    found = (_BREAK + data).split(_BREAK + b"--" + boundary)[1:]
    if not found or len(found) > MOST_FIELDS or not found[-1].startswith(b"--"):
        raise _none()
    form: Fields = {}
    files: Files = {}
    for part in found[:-1]:
        head, empty, content = part.removeprefix(_BREAK).partition(_BREAK * 2)
        disposition = HeaderParser().parsestr(_text(head))
        name, file = disposition.get_param("name", header="content-disposition"), disposition.get_filename()
        if not isinstance(name, str) or not empty or not part.startswith(_BREAK):
            raise _none()
        if file is None:
            form[name] = _text(content)
        elif file:  # a place for a file that was left empty has no name
            files[name] = (*files.get(name, ()), Upload(file, content))
    if sum(map(len, form.values())) > LARGEST_FORM or sum(map(len, files.values())) > MOST_FILES:
        raise TooLarge(
            f"a form has {LARGEST_FORM:,} characters and {MOST_FILES} files at most; of this one nothing was done."
        )
    return _checked(form), files


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except ValueError as error:
        raise _none() from error


def _checked(form: Fields) -> Fields:
    if has_nul(form):
        raise InvalidInput("a field holds a NUL character, which nothing here may have.")
    return form


def _none() -> InvalidInput:
    return InvalidInput("what was sent is not a form.")
