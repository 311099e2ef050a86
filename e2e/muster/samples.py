"""The vendor's own samples, taken out of its documents when the tests run.

The documents are not ours to copy, so they stay outside the repository: in
`../shared/seeds` beside it, or wherever $MUSTER_SEEDS says. One page kept its
fenced blocks; another was saved as bare text and lost its indentation, which is
put back here from the one tail that all its Python samples end with.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .binaries import REPOSITORY_DIR

VENDOR_URL = "https://api.connect.jfrog.io"
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PYTHON_BEGIN = "import json\nimport requests\n"
CURL = re.compile(r"curl --location --request .*?\n\}'", re.DOTALL)
ENDPOINT = re.compile(r"""(?:requests\.(\w+)\(|--request (\w+) )["']https://[^/"']+(/[^"']*)["']""")
# A statement that may follow the last `else:`, possibly with the page's next words glued to it.
TAIL_STATEMENT = re.compile(r"""for \w+ in [\w\["\]]+:|\w+ = \w+(?:\["\w+"\])+""")


def seeds_dir():
    return Path(os.environ.get("MUSTER_SEEDS") or REPOSITORY_DIR.parent / "shared" / "seeds")


@dataclass(frozen=True)
class Sample:
    """One printed sample."""

    language: str
    method: str
    path: str
    page: str
    code: str

    @property
    def id(self):
        return f"{self.language}-{self.method}{self.path.replace('/', '_')}-page{self.page}"


def fenced(text):
    """The Python samples of a page that kept its formatting."""
    return FENCE.findall(text)


def flattened(text):
    """The Python samples of a page that lost it, with their indentation put back.

    A copy of one page lost whole lines and its address as well; nothing of it could run.
    """
    whole = [chunk for chunk in text.split(PYTHON_BEGIN)[1:] if "print(error)" in chunk.splitlines()]
    return [PYTHON_BEGIN + reindented(cut_at_tail(chunk)) for chunk in whole]


def cut_at_tail(chunk):
    """The lines of a sample, without the page's words that follow it."""
    lines = chunk.splitlines()
    end = lines.index("print(error)") + 1
    if lines[end : end + 1] != ["else:"]:
        return lines[:end]
    tail = []
    for line in lines[end + 1 :]:
        statement = TAIL_STATEMENT.match(line)
        if statement is None:
            break
        tail.append(statement.group())
        if statement.group() != line:
            break
    return lines[: end + 1] + tail


def reindented(lines):
    """Puts back the only indentation that the samples' tails have.

    What stands before `if …status_code != 200:` is one expression in brackets or
    a plain statement, and needs none.
    """
    begin = next(i for i, line in enumerate(lines) if line.startswith("if call_request.status_code != "))
    depths = [0] * begin + tail_depths(lines[begin:])
    return "".join(f"{'    ' * depth}{line}\n" for depth, line in zip(depths, lines))


def tail_depths(lines):
    """How deep each line of a tail stands."""
    depths, elses, in_loop = [], 0, False
    for line in lines:
        elses += line == "else:"
        if line.startswith("if call_request.status_code != "):
            depths.append(0)
        elif line == "else:":
            depths.append(2 - elses)
        elif line.startswith(("if call_request.status_code == ", "print(")):
            depths.append(1)
        elif elses < 2:
            depths.append(2)
        else:
            depths.append(2 if in_loop else 1)
        in_loop = in_loop or line.startswith("for ")
    return depths


def python_samples(text):
    return fenced(text) if "```python" in text else flattened(text)


def curl_samples(text):
    return CURL.findall(text)


def _samples(text, page):
    found = [("python", code) for code in python_samples(text)]
    found += [("curl", code) for code in curl_samples(text)]
    for language, code in found:
        method_called, method_named, path = ENDPOINT.search(code).groups()
        yield Sample(language, (method_called or method_named).upper(), path, page, code)


def every_sample():
    """All samples of all pages; none where the pages are absent."""
    pages = sorted(seeds_dir().glob("*.txt")) if seeds_dir().is_dir() else []
    return [sample for page in pages for sample in _samples(page.read_text(), page.name[:3])]
