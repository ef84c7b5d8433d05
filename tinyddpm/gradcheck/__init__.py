"""Certificates: every hand-written backward, held against the complex step."""

from collections.abc import Iterator

from tinyddpm.gradcheck.complex_step import Certificate, certify
from tinyddpm.gradcheck.losses import loss_cases
from tinyddpm.gradcheck.networks import network_cases
from tinyddpm.gradcheck.ops import op_cases


def certificates(seed: int = 0) -> Iterator[Certificate]:
    """Certify every op, every loss, every block and the U-Net, at points drawn from ``seed``."""
    for case in (*op_cases(seed), *loss_cases(seed), *network_cases(seed)):
        yield certify(case, seed)
