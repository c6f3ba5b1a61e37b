#!/bin/sh
# Says what this machine lacks before pip fails with a page of C errors. Usage: preflight.sh PYTHON
python=$1
lacking=
need() { lacking="$lacking $2"; echo "missing: $1" >&2; }

if ! command -v "$python" >/dev/null 2>&1; then
    need "Python 3.11 or newer (no command '$python'; name another with 'make PYTHON=...')" python3
else
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        need "Python 3.11 or newer ('$python' is $("$python" -V 2>&1))" python3
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        need "Python's venv module with pip (import venv, ensurepip)" python3-venv
    header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    [ -f "$header" ] || need "Python's C headers ($header)" python3-dev
fi
command -v "${CC:-gcc}" >/dev/null 2>&1 || need "a C compiler (no command '${CC:-gcc}')" gcc

if [ -n "$lacking" ]; then
    echo "On Debian or Ubuntu: sudo apt-get install -y$lacking" >&2
    exit 1
fi
