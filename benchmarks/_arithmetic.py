"""How much of a training run on the CPU is arithmetic that no loop can save."""

from __future__ import annotations

from torch.profiler import ProfilerActivity, profile


class ConvolutionShare:
    """Called as each step begins, it profiles those between the `first` call and the `last`."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.calls = first, last, 0
        self.profile = profile(activities=[ProfilerActivity.CPU], acc_events=True)

    def __call__(self) -> None:
        if self.calls == self.first:
            self.profile.start()
        if self.calls == self.last:
            self.profile.stop()
        self.calls += 1

    def percent(self) -> float:
        """Time inside of convolutions, forward and backward, of all time in operators."""
        events = [(event.key, event.self_cpu_time_total) for event in self.profile.key_averages()]
        inside = ("aten::mkldnn_convolution", "aten::convolution_backward", "aten::_slow_conv2d_forward")
        return 100 * sum(time for name, time in events if name in inside) / sum(time for _, time in events)
