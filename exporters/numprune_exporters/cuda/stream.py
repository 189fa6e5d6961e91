"""A stream of work on the device, and a recording of it (a CUDA graph) that is launched as a whole."""

from __future__ import annotations

from collections.abc import Callable

from numprune_export.core.errors import DeviceError
from numprune_exporters.cuda.device import call, runtime


class Stream:
    """Work is done in the order it was given, beside the host until `synchronize`."""

    def __init__(self) -> None:
        # Not the default stream: that one waits for every other, and cannot be recorded.
        self._stream = call("cudaStreamCreateWithFlags", runtime().cudaStreamNonBlocking)
        self.handle = int(self._stream)

    def synchronize(self) -> None:
        """Wait until all work is done; an error of any of it is raised here.

        Raises:
            DeviceError: something that was given to the stream has failed.
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
        """Copy `rows` pieces of `width` bytes on the device; pitches are bytes from row to row."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyDeviceToDevice
        call(
            "cudaMemcpy2DAsync",
            target, target_pitch, source, source_pitch, width, rows, kind, self._stream,
        )  # fmt: skip

    def clear(self, device: int, size: int) -> None:
        """Set bytes on the device to zero."""
        call("cudaMemsetAsync", device, 0, size, self._stream)

    def record(self, work: Callable[[], None]) -> Recording:
        """What `work` gives to this stream, kept instead of done.

        Raises:
            DeviceError: some of it cannot be recorded. The stream is usable again.
        """
        # Other threads may allocate meanwhile: only this one is held to what can be recorded.
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
        """Wait for the work and let the stream go."""
        self.synchronize()
        call("cudaStreamDestroy", self._stream)

    def _abandon(self) -> None:
        # An error when the recording has ended already. The runtime remembers it, which must not last.
        error, graph = runtime().cudaStreamEndCapture(self._stream)
        if not int(error):
            call("cudaGraphDestroy", graph)
        runtime().cudaGetLastError()


class Recording:
    """Recorded work: the same addresses and shapes every time it is launched."""

    def __init__(self, executable: object) -> None:
        self._executable = executable

    def launch(self, stream: Stream) -> None:
        """Give all of it to the stream, as one piece of work."""
        call("cudaGraphLaunch", self._executable, stream._stream)

    def close(self) -> None:
        """Let it go; no launch of it may be running."""
        call("cudaGraphExecDestroy", self._executable)
