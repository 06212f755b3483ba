#!/usr/bin/env python3
"""mqtt_passwd: its flags, exit codes and files, against Mosquitto's tool where Debian has it.

MQTT_PASSWD names the program; default build/bin/mqtt_passwd of this repository. See broker.py for
the rest of the environment."""

import base64
import hashlib
import os
import pty
import select
import shutil
import stat
import subprocess
import time

from broker import ROOT, Skipped, Suite, Tests, free_port
from mqttd_options_test import expect, folder

PROGRAM = os.environ.get("MQTT_PASSWD", os.path.join(ROOT, "build", "bin", "mqtt_passwd"))
tests = Tests()


def run(*arguments, typed="", program=PROGRAM):
    done = subprocess.run([program] + list(arguments), input=typed.encode(), timeout=20,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def read(path):
    with open(path) as file:
        return file.read()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def is_right(line, user, password):
    """Whether a line is the user's with this password."""
    name, rest = line.split(":")
    parts = rest.split("$")[1:]
    salt, digest = (base64.b64decode(part) for part in parts[-2:])
    if parts[0] == "7":
        found = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, int(parts[1]))
    else:
        found = hashlib.sha512(password.encode() + salt).digest()
    return name == user and found == digest


@tests("users are added, changed and deleted; everything else stays as it is")
def _():
    with folder() as path:
        file = os.path.join(path, "passwords")
        code, out, _err = run("-c", "-b", file, "one", "secret")
        expect(code == 0 and out == "Adding password for user one\n", code, out)
        expect(stat.S_IMODE(os.stat(file).st_mode) == 0o600, "for the owner alone")
        write(file, "# 用户\n\n" + read(file))
        expect(run("-b", file, "two", "p:$ p")[0] == 0, "added")
        code, out, _err = run("-b", file, "one", "other")
        expect(code == 0 and out == "Updating password for user one\n", code, out)
        lines = read(file).splitlines()
        expect(lines[:2] == ["# 用户", ""] and len(lines) == 4, lines)
        expect(is_right(lines[2], "one", "other") and is_right(lines[3], "two", "p:$ p"), lines)
        expect(lines[2].startswith("one:$7$1000$"), lines)
        expect(run("-D", file, "one")[0] == 0, "deleted")
        expect(read(file).splitlines() == lines[:2] + lines[3:], read(file))
        code, _out, err = run("-D", file, "one")
        expect(code == 1 and err == "Warning: User one not found in password file.\n", code, err)
        expect(sorted(os.listdir(path)) == ["passwords"], "nothing is left behind")


@tests("hashes and iterations are as asked for")
def _():
    with folder() as path:
        file = os.path.join(path, "passwords")
        run("-c", "-H", "sha512", "-b", file, "old", "p")
        run("-H", "sha512-pbkdf2", "-I", "7", "-b", file, "new", "p")
        old, new = read(file).splitlines()
        expect(old.startswith("old:$6$") and is_right(old, "old", "p"), old)
        expect(new.startswith("new:$7$7$") and is_right(new, "new", "p"), new)
        code, out, _err = run("-c", "-b", "-", "u", "p")
        expect(code == 0 and is_right(out.strip(), "u", "p"), out)
        lines = {run("-c", "-b", "-", "u", "p")[1] for _ in range(3)}
        expect(len(lines) == 3, "a new salt each time")


@tests("a plain text file is hashed once")
def _():
    with folder() as path:
        file = os.path.join(path, "passwords")
        write(file, "a:one\n# b:two\nc : three \n")
        expect(run("-U", file)[0] == 0, "done")
        first = read(file).splitlines()
        expect(is_right(first[0], "a", "one") and is_right(first[2], "c", "three"), first)
        expect(first[1] == "# b:two", first)
        expect(run("-U", file)[0] == 0 and read(file).splitlines() == first, "not hashed again")


@tests("passwords are typed twice and not shown")
def _():
    with folder() as path:
        file = os.path.join(path, "passwords")
        code, out, _err = run("-c", file, "u", typed="secret\nsecret\n")
        expect(code == 0 and out.startswith("Password: \nReenter password: \n"), code, out)
        expect(is_right(read(file).strip(), "u", "secret"), read(file))
        before = read(file)
        code, _out, err = run(file, "u", typed="secret\nsecrets\n")
        expect(code == 2 and err == "Error: Passwords do not match.\n", code, err)
        for typed in ("", "\n", "x\n"):
            code, _out, err = run(file, "u", typed=typed)
            expect(code == 1 and err == "Error: Empty password.\n", code, err)
        expect(read(file) == before, "unchanged")

        process, terminal = pty.fork()
        if process == 0:
            os.execv(PROGRAM, [PROGRAM, file, "terminal"])
        shown = b""
        answers = [b"typed\n", b"typed\n"]
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    data = os.read(terminal, 1000)
                except OSError:
                    break
                shown += data
                if b"assword: " in data and answers:
                    time.sleep(0.05)
                    os.write(terminal, answers.pop(0))
        _pid, status = os.waitpid(process, 0)
        os.close(terminal)
        expect(os.WEXITSTATUS(status) == 0, shown)
        expect(b"typed" not in shown, "hidden:", shown)
        expect(is_right(read(file).splitlines()[1], "terminal", "typed"), read(file))


@tests("a file keeps its mode, its owner and the link to it")
def _():
    with folder() as path:
        file, link = os.path.join(path, "passwords"), os.path.join(path, "link")
        run("-c", "-b", file, "u", "p")
        os.chmod(file, 0o640)
        if os.geteuid() == 0:
            os.chown(file, 12, 34)
        os.symlink("passwords", link)
        for arguments in (["-b", link, "v", "p"], ["-D", link, "u"], ["-U", link],
                          ["-c", "-b", link, "w", "p"]):
            expect(run(*arguments)[0] == 0, arguments)
            found = os.stat(file)
            expect(stat.S_IMODE(found.st_mode) == 0o640, oct(found.st_mode))
            if os.geteuid() == 0:
                expect((found.st_uid, found.st_gid) == (12, 34), found)
            expect(os.path.islink(link), "still a link")


@tests("wrong arguments and files exit 1 and change nothing")
def _():
    with folder() as path:
        file = os.path.join(path, "passwords")
        run("-c", "-b", file, "u", "p")
        before = read(file)
        broken = os.path.join(path, "broken")
        write(broken, "u:x\nno colon\n")
        for arguments, part in (
                ([], "Usage: "), ([file], "Usage: "), (["-b", file, "u"], "Usage: "),
                ([file, "u", "p"], "Usage: "), (["-c", file], "username missing"),
                (["-c", "-b", file, "u"], "password missing"), (["-D", file], "username missing"),
                (["-U"], "password file missing"), (["-H"], "not enough other arguments"),
                (["-H", "md5", file, "u"], "Unknown hash type 'md5'"),
                (["-I", "0", file, "u"], "iterations must be > 0"),
                (["-I", "x", file, "u"], "iterations must be > 0"),
                (["-c", "-D", file, "u"], "-c and -D cannot"), (["-c", "-U", file], "-c and -U"),
                (["-D", "-U", file], "-D and -U"), (["-b", "-D", file, "u"], "-b and -D"),
                (["-b", file, "a:b", "p"], "':' character"),
                (["-b", file, "a\nb", "p"], "control characters"),
                (["-b", file, "", "p"], "not be empty"), (["-b", file, "#a", "p"], "begin with '#'"),
                (["-b", file, "u", "x" * 65536], "65536"),
                (["-b", "/nonexistent", "u", "p"], "Unable to open password file /nonexistent. No"),
                (["-c", "-b", "/nonexistent/x", "u", "p"], "for writing. No such file"),
                (["-b", broken, "v", "p"], "Corrupt password file at line 2.")):
            code, out, err = run(*arguments)
            expect(code == 1 and part in out + err, arguments, code, out, err)
        expect(read(file) == before and read(broken) == "u:x\nno colon\n", "unchanged")
        expect(sorted(os.listdir(path)) == ["broken", "passwords"], os.listdir(path))


@tests("Mosquitto's broker takes our hashes, and we change the files of its tool")
def _():
    for program in ("mosquitto", "mosquitto_passwd", "mosquitto_pub"):
        if shutil.which(program) is None:
            raise Skipped("needs %s (Debian: mosquitto, mosquitto-clients)" % program)
    with folder() as path:
        file = os.path.join(path, "passwords")
        expect(run("-c", "-b", file, "theirs", "t", program="mosquitto_passwd")[0] == 0, "made")
        run("-b", file, "ours", "o")
        run("-b", "-H", "sha512", file, "old", "l")
        os.chmod(path, 0o755)
        os.chmod(file, 0o644)
        port = free_port()
        conf = os.path.join(path, "conf")
        write(conf, "listener %d 127.0.0.1\npassword_file %s\n" % (port, file))
        with subprocess.Popen(["mosquitto", "-c", conf], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as broker:
            try:
                for user, password, wanted in (("theirs", "t", 0), ("ours", "o", 0),
                                               ("old", "l", 0), ("ours", "x", 5)):
                    deadline = time.monotonic() + 5
                    while True:
                        code = subprocess.run(
                            ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-u", user, "-P",
                             password, "-t", "t", "-m", "m"], check=False, timeout=10,
                            stderr=subprocess.DEVNULL).returncode
                        if code == wanted:
                            break
                        expect(code == 1 and time.monotonic() < deadline, user, "exit", code)
                        time.sleep(0.05)
            finally:
                broker.terminate()
                broker.wait(10)


if __name__ == "__main__":
    suite = Suite(time_max_s=120)
    tests.register(suite)
    suite.run(workers=1)
