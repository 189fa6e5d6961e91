import getpass
import os
import platform
import re
import socket
from pathlib import Path

import psutil
import torch

from numprune_export.measure.environment import PACKAGES, describe


def test_the_machine_is_described_by_what_a_number_depends_on():
    found = describe()
    assert found.machine == platform.machine()
    assert found.cpu
    assert 1 <= found.usable_cores <= (os.cpu_count() or 1)
    assert found.memory_bytes == psutil.virtual_memory().total
    assert found.python == platform.python_version()
    assert found.threads == torch.get_num_threads()
    # a wheel may leave its build, `+cu130`, out of its metadata
    assert found.packages["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(found.packages) <= set(PACKAGES)
    assert len(found.gpus) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)


def test_nothing_names_the_owner():
    words = re.findall(r"\w+", describe().model_dump_json())
    assert socket.gethostname() not in words
    assert getpass.getuser() not in words
    assert str(Path.home()) not in describe().model_dump_json()
