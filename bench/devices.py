"""What GPUs can do at most, by the names that their drivers give them; data sheets of the manufacturer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peak:
    """A device's limits.

    Attributes:
        flops: bfloat16 operations a second of dense matrix products, a multiplication and an addition counting as two.
        bandwidth: Bytes a second from the device's memory.
    """

    flops: float
    bandwidth: float


# Names are compared whole: the PCIe and NVL boards of the same chips have other limits.
PEAKS: dict[str, Peak] = {
    "NVIDIA H200": Peak(flops=989e12, bandwidth=4.8e12),
    "NVIDIA H100 80GB HBM3": Peak(flops=989e12, bandwidth=3.35e12),
    "NVIDIA A100-SXM4-80GB": Peak(flops=312e12, bandwidth=2.039e12),
    "NVIDIA A100 80GB PCIe": Peak(flops=312e12, bandwidth=1.935e12),
    "NVIDIA A100-SXM4-40GB": Peak(flops=312e12, bandwidth=1.555e12),
    "NVIDIA A100-PCIE-40GB": Peak(flops=312e12, bandwidth=1.555e12),
}
