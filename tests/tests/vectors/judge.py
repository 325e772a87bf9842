"""Runs a Python script once for each line of arguments (a JSON list) on standard input, for independent.rs.

Every run is a process of its own, forked from this one, which has compiled the script and loaded what it imports:
a thousand runs then take a fraction of the time. Prints one JSON line for each: [exit code, what it said]. A run that
ends in an exception has the code 99.
"""
import argparse, base64, datetime, hashlib, json, os, re, shutil, subprocess, sys, tempfile, traceback

script = sys.argv[1]
sys.dont_write_bytecode = True
sys.path[0] = os.path.dirname(script)
with open(script) as file:
    program = compile(file.read(), script, "exec")
try:
    import bundle_forms
except ImportError:
    pass


def run(arguments):
    sys.argv = [script, *arguments]
    try:
        exec(program, {"__name__": "__main__", "__file__": script})
        return 0
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 99


for line in sys.stdin:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.dup2(write, 2)
        code = run(json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    os.close(write)
    with open(read, errors="replace") as pipe:
        said = pipe.read()
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said]), flush=True)
