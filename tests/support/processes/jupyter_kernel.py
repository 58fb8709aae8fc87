"""A Jupyter kernel for a test: reads requests as lines of JSON, answers each with one.

{"start": [argv]}  {"run": code, "interrupt": seconds or null, "timeout": seconds}  {"interrupt": true}  {"restart": true}  {"rss": true}
"""

import json
import os
import sys
import threading
import time
from queue import Empty

from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec


class Kernel:
    def __init__(self, argv, folder):
        self.manager = KernelManager()
        self.manager._kernel_spec = KernelSpec(argv=argv, language="typescript")
        self.manager.start_kernel(cwd=folder, stdout=sys.stderr)
        self.connect()

    def connect(self):
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code, interrupt=None, timeout=30):
        """The outputs that a notebook would keep: those before the kernel says that the cell has ended."""
        if interrupt is not None:
            threading.Timer(interrupt, self.manager.interrupt_kernel).start()
        started = time.monotonic()
        request = self.client.execute(code)
        outputs = []
        try:
            while True:
                left = timeout - (time.monotonic() - started)
                message = self.client.get_iopub_msg(timeout=max(0.01, left))
                if message["parent_header"].get("msg_id") != request:
                    continue
                kind, content = message["msg_type"], message["content"]
                if kind == "status" and content["execution_state"] == "idle":
                    break
                if kind not in ("status", "execute_input"):
                    at = round(1000 * (time.monotonic() - started))
                    outputs.append({"kind": kind, "at": at, **content})
        except Empty:
            outputs.append({"kind": "timeout"})
        seconds = time.monotonic() - started
        return {"outputs": outputs, "seconds": seconds, "alive": self.manager.is_alive()}

    def restart(self):
        self.client.stop_channels()
        self.manager.restart_kernel()
        self.connect()
        return {}

    def rss(self):
        """Bytes of memory that the kernel's process has."""
        with open(f"/proc/{self.manager.provisioner.pid}/statm") as file:
            return {"rss": int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")}


def answer(kernel, request):
    if "run" in request:
        return kernel.run(request["run"], request.get("interrupt"), request.get("timeout", 30))
    if "interrupt" in request:
        kernel.manager.interrupt_kernel()
        time.sleep(0.2)
        return {}
    return kernel.restart() if "restart" in request else kernel.rss()


def main():
    argv, folder = json.loads(sys.stdin.readline())["start"]
    kernel = Kernel(argv, folder)
    try:
        print("{}", flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(kernel, json.loads(line))), flush=True)
    finally:
        kernel.client.stop_channels()
        kernel.manager.shutdown_kernel(now=True)


main()
