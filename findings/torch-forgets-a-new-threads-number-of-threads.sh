#!/usr/bin/env bash
# torch 2.13.0. torch.set_num_threads(n) in a Python thread sets the number for that thread; another thread
# that sets its own later should not matter, and once a thread has used torch it does not.
# If the call is the thread's first use of torch, it is undone: a thread takes the process-wide number,
# the last that anyone set, when it first asks for it, and set_num_threads itself does not count
# as asking. So the number comes back as the other thread's.
# Loaders that limit themselves to one thread in a pool then fight for the cores, or not, by chance.
# Do instead: call torch.get_num_threads() before torch.set_num_threads(n) in each new thread.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import threading
import torch

print("torch", torch.__version__)


def number_kept(ask_first):
    """A new thread sets 1; then the main one sets 2. What does the new thread have?"""
    was_set, go_on, found = threading.Event(), threading.Event(), []

    def work():
        if ask_first:
            torch.get_num_threads()
        torch.set_num_threads(1)
        was_set.set()
        go_on.wait()
        found.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    was_set.wait()
    torch.set_num_threads(2)
    go_on.set()
    thread.join()
    return found[0]


asked, unasked = number_kept(ask_first=True), number_kept(ask_first=False)
print(f"a new thread sets 1, then the main one 2: the new one has {unasked}; had it asked first, {asked}")
assert asked == 1, "A number set after asking is not kept."
assert unasked == 2, "A number set as a thread's first call is now kept."
EOF
