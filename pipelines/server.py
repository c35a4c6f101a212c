"""The Prefect server of a run: the one that PREFECT_API_URL names, or a temporary one for who has none.

Prefect can start a temporary one itself, but first imports all of the server into the run's own process,
and only then starts it: with both done at once it is there some seconds earlier.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pipelines import watchdog
from pipelines.workplace import FOLDER
from stages.common.errors import InputError

ADDRESS = "PREFECT_API_URL"
# What every flow run and task carries.
TAG = "assay"
# Nobody schedules anything on a temporary one, and it has no page.
WITHOUT = ("SCHEDULER", "LATE_RUNS", "PAUSE_EXPIRATIONS", "FOREMAN", "TRIGGERS")
PATIENCE = 5.0


def task_tags(stage: str) -> list[str]:
    """Return the tags of a stage's task: its group, by which a server can limit it, and that of all."""
    return [TAG, stage.rpartition(":")[2].partition("@")[0]]


def limits(tags: Iterable[str]) -> bool:
    """Whether the server that PREFECT_API_URL names may limit how many tasks with one of the tags run at once.

    Asked without Prefect, whose import takes two seconds. If the server does not want to say, it may.

    Raises:
        InputError: It does not answer.
    """
    address = os.environ.get(ADDRESS, "")
    if not address:
        return False
    headers = {"Content-Type": "application/json"}
    request = Request(f"{address}/concurrency_limits/filter", b'{"limit": 200}', headers)  # noqa: S310 - the user's own
    try:
        with urlopen(request, timeout=PATIENCE) as response:  # noqa: S310
            limited = {limit["tag"] for limit in json.load(response)}
    except HTTPError:
        return True
    except (URLError, OSError, ValueError) as error:
        remedy = "start it: `prefect server start`; or unset the variable, or give --no-prefect"
        raise InputError(ADDRESS, f"no Prefect server answers at {address} ({error})", remedy) from error
    return not limited.isdisjoint(tags)


def ensure(root: Path) -> bool:
    """Start a server that ends with this process, unless Prefect's settings name one; return whether it did.

    Args:
        root: The repository, whose mark the server carries: a killed run leaves none behind.

    Raises:
        InputError: It ended, or does not answer within Prefect's own limit.
    """
    if os.environ.get(ADDRESS):
        return False
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = root / FOLDER / "server.log"
    server = _start(root, port, log)
    # After Prefect has sent what it holds back, which it does before this.
    atexit.register(_stop, server)

    # Takes two seconds, while the server starts.
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url:
        _stop(server)
        return False
    _wait(server, port, settings.server.ephemeral.startup_timeout_seconds, log)
    os.environ[ADDRESS] = f"http://127.0.0.1:{port}/api"
    refresh_global_settings_context()
    return True


def _start(root: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    services = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in WITHOUT}
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    with log.open("wb") as file:
        return subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"],
            cwd=root,
            env={**os.environ, **watchdog.marked(root), **services, "PREFECT_UI_ENABLED": "false"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def _wait(server: subprocess.Popen[bytes], port: int, seconds: float, log: Path) -> None:
    end = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < end:
        if _answers(port):
            return
        time.sleep(0.05)
    state = "does not answer" if server.poll() is None else f"ended with exit code {server.returncode}"
    raise InputError("Prefect's temporary server", f"{state}; it said: {log}", "mend that, or give --no-prefect")


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
