"""The clients of npm, installed once into a cache directory."""

import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

_SOURCES = Path(__file__).parent / "node"
_SECONDS = 120


def installed() -> Path:
    """The directory with ``node_modules``; skips the test where npm or its registry is missing."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are missing: apt-get install nodejs npm")
    package = (_SOURCES / "package.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dhenara-async-tests"
    home = cache / f"node-{sha256(package).hexdigest()[:12]}"
    if not home.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as fresh:
            (Path(fresh) / "package.json").write_bytes(package)
            command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            done = subprocess.run(command, cwd=fresh, capture_output=True, timeout=_SECONDS, check=False)
            if done.returncode:
                pytest.skip("the clients cannot be installed: npm reaches no registry")
            try:
                Path(fresh).rename(home)
            except OSError:  # another worker was faster
                if not home.exists():
                    raise
            else:
                Path(fresh).mkdir()  # for the clean-up of the temporary directory
    return home


def bundled(script: str, home: Path, sdk: int) -> bytes:
    """Return a script for browsers with all that it imports; ``ai`` and ``@ai-sdk/react`` of one version of the SDK."""
    modules = home / "node_modules"
    command = [
        *(str(modules / ".bin" / "esbuild"), str(_SOURCES / script), "--bundle", "--format=esm", "--log-level=warning"),
        *(f"--alias:ai=ai{sdk}", f"--alias:@ai-sdk/react=react{sdk}", '--define:process.env.NODE_ENV="development"'),
    ]
    environment = {**os.environ, "NODE_PATH": str(modules)}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout


async def run(script: str, home: Path, plan: object) -> Any:
    """Run a script with a plan as its input, and return the JSON that it prints."""
    node = shutil.which("node") or "node"
    command = [node, str(_SOURCES / script)]
    with anyio.fail_after(_SECONDS):
        done = await anyio.run_process(
            command, input=orjson.dumps(plan), env={**os.environ, "NODE_HOME": str(home)}, check=False
        )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return orjson.loads(done.stdout)
