"""The shell examples of the documentation run, and as a reader would run them: page by page, top to bottom."""

import os
import re
import sys

import pytest

from muster.binaries import REPOSITORY_DIR, binary
from muster.process import clean_environment, run

# Only blocks marked so: others show fragments, output, or commands for another machine.
EXAMPLE = re.compile(r"^```sh run\n(.*?)^```", re.MULTILINE | re.DOTALL)


def pages():
    found = [REPOSITORY_DIR / "README.md", *sorted((REPOSITORY_DIR / "docs").rglob("*.md"))]
    return [page for page in found if page.is_file() and EXAMPLE.search(page.read_text())]


def environment(world, device, folder):
    """What the pages' variables stand for; `docs/testing.md` lists them."""
    # The tests' own Python has the SDK that a page shows.
    programs = f"{os.path.dirname(binary('muster'))}:{os.path.dirname(sys.executable)}"
    return clean_environment(
        PATH=f"{programs}:{os.environ['PATH']}",
        URL=world.server.url,
        PROJECT=world.account.project_key,
        USER_TOKEN=world.account.user_token,
        ACCESS_TOKEN=world.account.access_token,
        PAIRING_TOKEN=world.account.pairing_token,
        DEVICE_UUID=device.uuid,
        DEVICE_TOKEN=device.token,
        # A login on a page is none of the person's who runs the tests.
        XDG_CONFIG_HOME=folder / "config",
    )


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY_DIR)))
def test_its_examples_run(own_world, tmp_path, page):
    device = own_world.online_device(name="example")
    script = "\n".join(EXAMPLE.findall(page.read_text()))
    done = run("bash", "-euo", "pipefail", "-c", script, env=environment(own_world, device, tmp_path), cwd=tmp_path)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
