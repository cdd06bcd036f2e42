"""A worker does not outlive a server that was killed."""

import subprocess
import sys
import time

import psutil

SERVER = """
import asyncio, os, time
from chat_app.ui.lifetime import with_parent

async def work():
    async with with_parent():
        await asyncio.sleep(60)

if (worker := os.fork()) == 0:
    asyncio.run(work())
print(worker, flush=True)
time.sleep(60)
"""


def test_the_worker_ends_soon_after_its_parent() -> None:
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    worker = psutil.Process(int(server.stdout.readline()))
    time.sleep(0.3)
    assert worker.is_running()
    server.kill()
    server.wait()
    worker.wait(timeout=10)
    assert not worker.is_running()
