"""A CUDA stream, and recordings of its work (CUDA graphs)."""

from __future__ import annotations

from collections.abc import Callable

from numprune_export.core.errors import DeviceError
from numprune_exporters.cuda.device import call, runtime


class Stream:
    """Work runs in submission order, asynchronously to the host until `synchronize`."""

    def __init__(self) -> None:
        # The default stream waits for every other stream and cannot be recorded.
        self._stream = call("cudaStreamCreateWithFlags", runtime().cudaStreamNonBlocking)
        self.handle = int(self._stream)

    def synchronize(self) -> None:
        """Wait for all work; its errors are raised here.

        Raises:
            DeviceError: work of this stream failed.
        """
        call("cudaStreamSynchronize", self._stream)

    def upload(self, device: int, host: int, size: int) -> None:
        """Copy `size` bytes from pinned host memory to the device."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        call("cudaMemcpyAsync", device, host, size, kind, self._stream)

    def download(self, host: int, device: int, size: int) -> None:
        """Copy `size` bytes from the device to pinned host memory."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        call("cudaMemcpyAsync", host, device, size, kind, self._stream)

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, rows: int
    ) -> None:
        """Copy `rows` rows of `width` bytes on the device; a pitch is the bytes from row to row."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyDeviceToDevice
        call(
            "cudaMemcpy2DAsync",
            target, target_pitch, source, source_pitch, width, rows, kind, self._stream,
        )  # fmt: skip

    def clear(self, device: int, size: int) -> None:
        """Set bytes on the device to zero."""
        call("cudaMemsetAsync", device, 0, size, self._stream)

    def record(self, work: Callable[[], None]) -> Recording:
        """Record the work that `work` submits to this stream, without running it.

        Raises:
            DeviceError: a part cannot be recorded. The stream stays usable.
        """
        # Other threads may allocate meanwhile: the restrictions apply to this thread only.
        mode = runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call("cudaStreamBeginCapture", self._stream, mode)
        try:
            work()
            graph = call("cudaStreamEndCapture", self._stream)
        except DeviceError:
            self._abandon()
            raise
        try:
            return Recording(call("cudaGraphInstantiate", graph, 0))
        finally:
            call("cudaGraphDestroy", graph)

    def close(self) -> None:
        """Wait for the work and destroy the stream."""
        self.synchronize()
        call("cudaStreamDestroy", self._stream)

    def _abandon(self) -> None:
        # Fails if the recording has ended already. `cudaGetLastError` clears the stored error.
        error, graph = runtime().cudaStreamEndCapture(self._stream)
        if not int(error):
            call("cudaGraphDestroy", graph)
        runtime().cudaGetLastError()


class Recording:
    """Recorded work: every launch uses the same addresses and shapes."""

    def __init__(self, executable: object) -> None:
        self._executable = executable

    def launch(self, stream: Stream) -> None:
        """Submit the recording to the stream as one operation."""
        call("cudaGraphLaunch", self._executable, stream._stream)

    def close(self) -> None:
        """Destroy the recording; none of its launches may be running."""
        call("cudaGraphExecDestroy", self._executable)
