"""A program around the library: its children stay its own, whatever it does
with SIGCHLD, and it gets the same metrics. Run by watch.py.

    library.py LIBTROMMEL FOLDER ignore|default BASE_URL
SPDX-License-Identifier: MIT
"""
import ctypes, os, signal, subprocess, sys

sys.dont_write_bytecode = True
import promtext

lib = ctypes.CDLL(sys.argv[1])
folder, ignore = sys.argv[2], sys.argv[3] == "ignore"
for name, result, *arguments in (
        ("config_new", ctypes.c_void_p),
        ("config_set", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p,
         ctypes.c_char_p),
        ("config_error", ctypes.c_char_p, ctypes.c_void_p),
        ("run_open", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
        ("run_error", ctypes.c_char_p, ctypes.c_void_p),
        ("run_step", ctypes.c_int, ctypes.c_void_p, ctypes.c_int),
        ("run_exit", ctypes.c_int, ctypes.c_void_p),
        ("run_push", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p,
         ctypes.c_char_p, ctypes.c_size_t),
        ("run_finish", ctypes.c_int, ctypes.c_void_p),
        ("run_metrics", ctypes.c_char_p, ctypes.c_void_p),
        ("run_close", None, ctypes.c_void_p),
        ("config_free", None, ctypes.c_void_p)):
    function = getattr(lib, "trommel_" + name)
    function.restype, function.argtypes = result, arguments

own = subprocess.Popen(["sh", "-c", "exit 7"])  # ends before and during it
if ignore:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
cfg = lib.trommel_config_new()
for name, value in (("labels", "refund,bug,question"), ("store", "none"),
                    ("model", "openai/m"), ("base-url", sys.argv[4]),
                    ("alert-command", folder + "/hook")):
    assert lib.trommel_config_set(cfg, name.encode(), value.encode()) == 0, \
        lib.trommel_config_error(cfg)
run = ctypes.c_void_p()
rc = lib.trommel_run_open(ctypes.byref(run), cfg)
assert rc == 0, lib.trommel_run_error(run)
for i in range(20):
    text = f"message {i}".encode()
    assert lib.trommel_run_push(run, None, text, len(text)) == 0
lib.trommel_run_finish(run)
while lib.trommel_run_step(run, 50) == 1:
    pass
assert lib.trommel_run_exit(run) == 0, lib.trommel_run_error(run)
families = promtext.parse(lib.trommel_run_metrics(run).decode())
assert promtext.total(families, "trommel_items_total") == 20
assert promtext.total(families, "trommel_alerts_undelivered_total") == 0
lib.trommel_run_close(run)
lib.trommel_config_free(cfg)
if not ignore:
    assert own.wait() == 7
    try:
        os.waitpid(-1, os.WNOHANG)
        raise AssertionError("a child is left")
    except ChildProcessError:
        pass
