"""Loaded by schemathesis: what the document's own formats stand for on the server under test.

Without these, nearly every generated request would name nothing that exists, and
be refused at its first look-up.
"""

import json
import os

import schemathesis
from hypothesis import strategies as st

KNOWN = json.loads(os.environ["FUZZ_KNOWN"])

for name, values in KNOWN.items():
    schemathesis.openapi.format(name, st.sampled_from(values))
