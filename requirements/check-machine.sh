#!/bin/sh
# Says what this machine lacks for `make demo`, and how to get it. $1: the Python to use, $2: the lock.
python=$1 lock=$2
missing=0
need() { echo "missing: $1" >&2; echo "   to install it: $2" >&2; missing=1; }

[ "$(uname -sm)" = "Linux x86_64" ] || need "Linux on x86-64 (here: $(uname -sm))" "use such a machine; vLLM's CPU build has no other"
grep -qm1 avx2 /proc/cpuinfo 2>/dev/null || need "a processor with AVX2" "use one of 2014 or later"
if ! command -v "$python" >/dev/null; then
  need "Python 3.11 ($python)" "apt-get install python3.11 python3.11-venv, or name one: make PYTHON=/path/to/python3.11"
elif [ "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" != 3.11 ]; then
  need "Python 3.11 ($python is $("$python" -V 2>&1))" "apt-get install python3.11 python3.11-venv, then make PYTHON=python3.11"
elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  need "Python's venv module" "apt-get install python3.11-venv"
fi
if [ "$lock" = requirements/cpu.txt ] && command -v "$python" >/dev/null && ! "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null; then
  need "libnuma, which vLLM's CPU build is linked against" "apt-get install libnuma1"
fi
free=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
[ -d .venv ] || [ "$free" -ge 9 ] || need "disk: the environment takes 7 GB and $free GB are free" "make room"
command -v g++ >/dev/null || echo "note: no C++ compiler; DeepSpeed's shared-memory op is turned off (only matters with several ranks)" >&2
exit $missing
