"""provider - `trommel fake` beside a test: started, asked for its bill, ended.

SPDX-License-Identifier: MIT
"""
import json
import os
import re
import subprocess
import time
import urllib.request

# What a bug looks like, whatever the exit code says.
CRASH = re.compile(r"Sanitizer|runtime error: |: bug: ")


class Fake:
    """Its port and all it says stand in folder, in files of that name; more is
    for Popen."""

    def __init__(self, trommel, folder, *options, name="port", **more):
        port = os.path.join(folder, name)
        self.log = port + ".log"
        if os.path.exists(port): # of one before
            os.remove(port)
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [trommel, "fake", "--port", "0", "--port-file", port,
                 *options], stdout=log, stderr=log, **more)
        self.ended = False
        until = time.monotonic() + 60
        while not (os.path.exists(port) and open(port).read().strip()):
            if time.monotonic() > until or self.process.poll() is not None:
                self.process.kill()
                raise RuntimeError("trommel fake did not start: " + self.said())
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{open(port).read().strip()}"

    def said(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def bill(self, reset=False):
        with urllib.request.urlopen(
                self.url + "/bill" + ("?reset=1" if reset else "")) as reply:
            return json.load(reply)

    def end(self):
        """Ends it, once. What is wrong with how it ended: a list."""
        if self.ended:
            return []
        self.ended = True
        self.process.terminate()
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if code == 0 and not CRASH.search(self.said()):
            return []
        return [f"trommel fake ended with {code}: {self.said()}"]
