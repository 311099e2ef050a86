"""Bad requests made from good ones: each field in turn is given what it must not hold."""

import copy
from dataclasses import dataclass, field
from typing import Callable

BODY_BYTES_MAX = 1024 * 1024
MISSING = object()

SQL = "'; DROP TABLE devices; --"
NUL, ESCAPE, LONG, HUGE = "a\u0000b", "a\u001b[2Jb", "x" * 300, "x" * 200_000
NOT_TEXT = [5, True, [], {}, ["x"], {"x": "y"}]

# What each kind of field must refuse. `missing` and `null` are refused by required fields only.
KINDS = {
    # Names something that must exist: everything that does not is refused as well.
    "known": [*NOT_TEXT, "", " ", "no such", SQL, "%", "*", NUL, ESCAPE, LONG, HUGE],
    # A name that a person makes up. SQL is one, odd as it is.
    "name": [*NOT_TEXT, "", " ", NUL, ESCAPE, "two\nlines", LONG, HUGE],
    "text": [*NOT_TEXT, NUL, ESCAPE, "x" * 5_000, HUGE],
    "version": [*NOT_TEXT, "", NUL, LONG, HUGE],
    "string": NOT_TEXT,
    "word": [*NOT_TEXT, "", "IS", "no such", SQL, NUL, HUGE],
    "token": [*NOT_TEXT, "", "no such", SQL, NUL, HUGE],
    "bool": [5, 0, "true", "", [], {}],
    "object": [5, True, "x", "", [], ["x"]],
    "list": [5, True, "x", "", {}, {"name": "x"}, [5], [None], ["x"], [[]]],
    "count": [0, -1, 1.5, 10**30, "ten", "", [], {}, True],
    "number": [-1.5, "ten", "", [], {}, True],
    "degrees": [181, -181, "north", "", [], {}, True, "NaN", "1e999"],
    "uuid": [*NOT_TEXT, "", "no such", "d-0000", "D-0000-0000", SQL, NUL, HUGE],
}

# Bodies that are wrong as a whole.
RAW_BODIES = {
    "nothing": b"",
    "no JSON": b"tag_name=x",
    "half of JSON": b'{"user_token": "x", "dev',
    "two values": b"{} {}",
    "no UTF-8": b'{"user_token": "\xff\xfe"}',
    "half a surrogate": b'{"user_token": "\\ud800"}',
    "number beyond all": b'{"user_token": 1e999, "limit": 1e999}',
    "null": b"null",
    "a string": b'"x"',
    "a number": b"5",
    "deep nesting": b"[" * 100_000 + b"]" * 100_000,
    "deep nesting inside": b'{"device_filter": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
}


@dataclass(frozen=True)
class Field:
    """One place in a good body, such as `device_filter.groups.0.name`."""

    place: str
    kind: str
    required: bool = False

    @property
    def keys(self):
        return [int(key) if key.isdigit() else key for key in self.place.split(".")]

    @property
    def word(self):
        """What a refusal must name: the innermost key that is a word."""
        return [key for key in self.keys if isinstance(key, str)][-1]

    def bad_values(self):
        return KINDS[self.kind] + ([MISSING, None] if self.required else [])


@dataclass(frozen=True)
class Call:
    """A call with a good body, and what in it can be made bad."""

    name: str
    method: str
    path: str
    body: Callable
    fields: list
    # Objects that refuse keys they do not know: a misspelt filter must not mean every device.
    closed: list = field(default_factory=list)


def changed(body, keys, value):
    """A copy of `body` with another value in that place, or with the place removed."""
    body = copy.deepcopy(body)
    inner = body
    for key in keys[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    return body


def with_surprise(body, place):
    """A copy of `body` with a key that nobody knows in the object at `place`."""
    keys = [int(key) if key.isdigit() else key for key in place.split(".")]
    return changed(body, [*keys, "surprise"], "x")


def shown(value):
    """A value as a test's report shows it."""
    text = "(missing)" if value is MISSING else repr(value)
    return text if len(text) < 60 else f"{text[:50]}… ({len(text)} characters)"
