"""stop.py SIGNAL TIMES N URL COMMAND...: tells the command to stop when the fake has seen N requests, and again when it
says that it waits. Prints how it ended; what it said goes where ours goes."""
import os
import signal
import subprocess
import sys

name, times, asked, url, *command = sys.argv[1:]
number = getattr(signal, "SIG" + name)
signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts us may ignore it
run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
subprocess.run([*os.environ["ASKED"].split(), asked, url], check=True)
run.send_signal(number)
for line in run.stderr:
    sys.stderr.write(line)
    if times == "2" and "waiting up to" in line:
        run.send_signal(number)
print(name, run.wait())
