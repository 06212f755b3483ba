#!/usr/bin/env python3
"""The npm package `mqtt` against the broker, over 3.1.1 and 5; the checks are in mqttjs.js.

Installs the package under build/npm on first use. See broker.py for the environment.
"""

import os
import shutil
import subprocess
import sys

from broker import ROOT, Broker, Failure

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(ROOT, "build", "npm")
PACKAGE = os.path.join(FOLDER, "node_modules", "mqtt")


def fail(why):
    print("FAIL mqtt.js: " + why)
    sys.exit(1)


def install():
    if os.path.isdir(PACKAGE):
        return
    if shutil.which("npm") is None:
        fail("npm is missing")
    os.makedirs(FOLDER, exist_ok=True)
    done = subprocess.run(["npm",
    "install",
    "--prefix",
    FOLDER,
    "--no-audit",
    "--no-fund",
    "--no-save",
    "mqtt@5"],
    capture_output=True,
     timeout=300)
    if done.returncode != 0 or not os.path.isdir(PACKAGE):
        fail("npm install mqtt failed: " + done.stderr.decode()[-500:])


if __name__ == "__main__":
    if shutil.which("node") is None:
        fail("node is missing")
    install()
    try:
        with Broker() as broker:
            try:
                done = subprocess.run(["node", os.path.join(HERE, "mqttjs.js"),
                                      PACKAGE, str(broker.port)] + sys.argv[1:], timeout=120)
            except subprocess.TimeoutExpired:
                fail("not done within 120 s")
            if done.returncode != 0:
                broker.kill()
                sys.exit(1)
    except Failure as error:
        fail(str(error))
