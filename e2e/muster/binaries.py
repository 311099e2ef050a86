"""Where the executables under test are."""

import os
from pathlib import Path

E2E_DIR = Path(__file__).resolve().parent.parent
REPOSITORY_DIR = E2E_DIR.parent


def binary(name):
    """The path of `muster` or `muster-agent`, from $MUSTER_BIN_DIR or target/debug."""
    folder = Path(os.environ.get("MUSTER_BIN_DIR") or REPOSITORY_DIR / "target" / "debug")
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: run `cargo build --workspace --bins`, or set MUSTER_BIN_DIR")
    return str(path)
