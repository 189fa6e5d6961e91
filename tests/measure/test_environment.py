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
    environment = describe()
    assert environment.machine == platform.machine()
    assert environment.cpu
    assert 1 <= environment.usable_cores <= (os.cpu_count() or 1)
    assert environment.memory_bytes == psutil.virtual_memory().total
    assert environment.python == platform.python_version()
    assert environment.threads == torch.get_num_threads()
    # a wheel may leave its build, `+cu130`, out of its metadata
    assert environment.packages["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(environment.packages) <= set(PACKAGES)
    assert len(environment.gpus) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)


def test_nothing_names_the_owner():
    words = re.findall(r"\w+", describe().model_dump_json())
    assert socket.gethostname() not in words
    assert getpass.getuser() not in words
    assert str(Path.home()) not in describe().model_dump_json()
