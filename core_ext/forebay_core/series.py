"""Windows of many series, and how surprising a model's error is: the compiled kernel or its twin.

`windows` turns cells in order of arrival into model inputs: the last `width` differences of the cell's
series in units of its mean |difference|, its distance from the long mean and from the recent mean in units
of the mean deviation. `surprise` turns the model's error into a score by what errors the series is used to:
0.1 at its running 0.9 quantile, 0.9 at 3.5 mean excesses above. Both learn as they go; the columns of `track`
are described in _series.pyx.
"""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from ._series import TRACK_WIDTH, surprise, windows
else:
    from .reference.series import TRACK_WIDTH, surprise, windows

__all__ = ["TRACK_WIDTH", "surprise", "windows"]
