"""ahead.py - makes the ledger in the folder one of a day far ahead."""
import glob
import hashlib
import os

[path] = glob.glob(os.environ["XDG_STATE_HOME"] + "/trommel/day-*.ledger")
head, period, share, _ = open(path).read().splitlines()
_, day, shares = period.split()
words = share.split()
assert words[2] == day
words[2] = "30000"
text = f"{head}\nperiod {words[2]} {shares}\n{' '.join(words)}\n"
digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:16]
open(path, "w").write(f"{text}end {digest}\n")
