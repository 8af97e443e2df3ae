# cython: language_level=3
"""A frame to a model's input in one pass, and suppression of overlapping boxes.

`fit` resizes (bilinear, pixel centres at .5), places, swaps and normalises. Rows are blended first, as
integers over the frame's whole width, where the compiler vectorises; only then are columns picked.
"""

from libc.math cimport floor
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t
from libc.stdlib cimport free, malloc


cdef inline Py_ssize_t _source(
    Py_ssize_t at, double ratio, Py_ssize_t length, Py_ssize_t *low, double *weight
) noexcept nogil:
    """Return the upper neighbour of output place `at`; set the lower one and the upper one's weight."""
    cdef double place = (<double>at + 0.5) * ratio - 0.5
    cdef Py_ssize_t base
    if place <= 0.0:
        low[0] = 0
        weight[0] = 0.0
        return 0
    base = <Py_ssize_t>floor(place)
    if base >= length - 1:
        low[0] = length - 1
        weight[0] = 0.0
        return length - 1
    low[0] = base
    weight[0] = place - <double>base
    return base + 1


cdef void _blend(
    const uint8_t *upper, const uint8_t *lower, uint16_t *out, Py_ssize_t n, uint16_t weight
) noexcept nogil:
    """Write 256 times the row between two rows; 255 * 256 fits."""
    cdef Py_ssize_t i
    cdef uint16_t rest = <uint16_t>(256 - weight)
    for i in range(n):
        out[i] = <uint16_t>(<uint16_t>(upper[i] * rest) + <uint16_t>(lower[i] * weight))


cdef void _pick(
    const uint16_t *row,
    const int32_t *left,
    const int32_t *right,
    const float *weights,
    const float *gain,
    const float *bias,
    float *first,
    float *second,
    float *third,
    Py_ssize_t stride,
    Py_ssize_t width,
) noexcept nogil:
    """Write one output row of three channels from a blended row."""
    cdef Py_ssize_t x, a, b
    cdef float w, low
    cdef float g0 = gain[0], g1 = gain[1], g2 = gain[2]
    cdef float b0 = bias[0], b1 = bias[1], b2 = bias[2]
    for x in range(width):
        a = left[x]
        b = right[x]
        w = weights[x]
        low = <float>row[a]
        first[x * stride] = (low + (<float>row[b] - low) * w) * g0 + b0
        low = <float>row[a + 1]
        second[x * stride] = (low + (<float>row[b + 1] - low) * w) * g1 + b1
        low = <float>row[a + 2]
        third[x * stride] = (low + (<float>row[b + 2] - low) * w) * g2 + b2


def fit(
    const uint8_t[:, :, :] frame not None,
    float[::1] out not None,
    Py_ssize_t height,
    Py_ssize_t width,
    Py_ssize_t top,
    Py_ssize_t left,
    Py_ssize_t inner_height,
    Py_ssize_t inner_width,
    const float[::1] mean not None,
    const float[::1] scale not None,
    bint rgb,
    bint planar,
    float pad,
):
    """See _image.pyi."""
    cdef Py_ssize_t h = frame.shape[0]
    cdef Py_ssize_t w = frame.shape[1]
    cdef Py_ssize_t i, x, y, low, high, plane, stride
    cdef double weight, ratio
    cdef float gain[3]
    cdef float bias[3]
    cdef float *rows[3]
    cdef int32_t *lefts
    cdef int32_t *rights
    cdef float *weights
    cdef uint16_t *row
    if frame.shape[2] != 3 or h < 1 or w < 1:
        raise ValueError("expected a frame (h, w, 3) that is not empty")
    if frame.strides[1] != 3 or frame.strides[2] != 1:
        raise ValueError("expected a frame whose pixels lie side by side in a row")
    if mean.shape[0] != 3 or scale.shape[0] != 3 or out.shape[0] != 3 * height * width:
        raise ValueError("array shapes do not agree")
    if (
        height < 1 or width < 1 or inner_height < 1 or inner_width < 1 or top < 0 or left < 0
        or top + inner_height > height or left + inner_width > width or w > 1 << 28
    ):
        raise ValueError("the placed image does not lie within the output")
    row = <uint16_t *>malloc(w * 3 * sizeof(uint16_t))
    lefts = <int32_t *>malloc(inner_width * sizeof(int32_t))
    rights = <int32_t *>malloc(inner_width * sizeof(int32_t))
    weights = <float *>malloc(inner_width * sizeof(float))
    if row == NULL or lefts == NULL or rights == NULL or weights == NULL:
        free(row)
        free(lefts)
        free(rights)
        free(weights)
        raise MemoryError
    with nogil:
        if inner_height != height or inner_width != width:
            for i in range(out.shape[0]):
                out[i] = pad
        for i in range(3):
            gain[i] = scale[i] / <float>256.0  # undoes the factor of _blend
            bias[i] = -mean[i] * scale[i]
        ratio = <double>w / <double>inner_width
        for x in range(inner_width):
            high = _source(x, ratio, w, &low, &weight)
            lefts[x] = <int32_t>(3 * low)
            rights[x] = <int32_t>(3 * high)
            weights[x] = <float>weight
        ratio = <double>h / <double>inner_height
        plane = height * width if planar else 1
        stride = 1 if planar else 3
        for y in range(inner_height):
            high = _source(y, ratio, h, &low, &weight)
            _blend(&frame[low, 0, 0], &frame[high, 0, 0], row, 3 * w, <uint16_t>(weight * 256.0 + 0.5))
            for i in range(3):
                # channel i of the frame goes to plane i, or 2 - i where red comes first
                rows[i] = &out[0] + ((top + y) * width + left) * stride + (2 - i if rgb else i) * plane
            _pick(row, lefts, rights, weights, gain, bias, rows[0], rows[1], rows[2], stride, inner_width)
    free(row)
    free(lefts)
    free(rights)
    free(weights)


cdef inline float _overlap(const float[:, ::1] boxes, Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """Return intersection over union; empty boxes overlap nothing."""
    cdef float w = min(boxes[a, 2], boxes[b, 2]) - max(boxes[a, 0], boxes[b, 0])
    cdef float h = min(boxes[a, 3], boxes[b, 3]) - max(boxes[a, 1], boxes[b, 1])
    cdef float both
    if not (w > 0.0 and h > 0.0):
        return 0.0
    both = w * h
    return both / (
        (boxes[a, 2] - boxes[a, 0]) * (boxes[a, 3] - boxes[a, 1])
        + (boxes[b, 2] - boxes[b, 0]) * (boxes[b, 3] - boxes[b, 1]) - both
    )


def suppress(
    const float[:, ::1] boxes not None,
    const int64_t[::1] order not None,
    const int32_t[::1] labels not None,
    float limit,
    uint8_t[::1] keep not None,
):
    """See _image.pyi."""
    cdef Py_ssize_t n = boxes.shape[0]
    cdef Py_ssize_t i, j, a, b
    if order.shape[0] != n or labels.shape[0] != n or keep.shape[0] != n or boxes.shape[1] != 4:
        raise ValueError("array shapes do not agree")
    for i in range(n):
        if order[i] < 0 or order[i] >= n:
            raise ValueError("order is not a permutation")
    with nogil:
        for i in range(n):
            keep[i] = 1
        for i in range(n):
            a = order[i]
            if not keep[a]:
                continue
            for j in range(i + 1, n):
                b = order[j]
                if keep[b] and labels[a] == labels[b] and _overlap(boxes, a, b) > limit:
                    keep[b] = 0
