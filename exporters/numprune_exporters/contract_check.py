"""The classes that the entry points name, so that the type checker compares them with protocols.

No running code imports this module. A test compares it with the entry points.
"""

from numprune_export.export.exporter import Exporter, Packager
from numprune_exporters.onnx.target import OnnxExporter
from numprune_exporters.onnx_cuda.target import OnnxCudaExporter
from numprune_exporters.triton import TritonPackager
from numprune_exporters.trt.target import TrtExporter, TrtRtxExporter

TARGETS: tuple[Exporter, ...] = (
    OnnxExporter(),
    OnnxCudaExporter(),
    TrtExporter(),
    TrtRtxExporter(),
)
PACKAGERS: tuple[Packager, ...] = (TritonPackager(),)
