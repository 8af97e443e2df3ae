import numpy as np
import numpy.typing as npt

def fit(
    frame: npt.NDArray[np.uint8],
    out: npt.NDArray[np.float32],
    height: int,
    width: int,
    top: int,
    left: int,
    inner_height: int,
    inner_width: int,
    mean: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
    rgb: bool,
    planar: bool,
    pad: float,
) -> None:
    """Resize a frame into a place of a model's input, normalised: (pixel - mean) * scale.

    Parameters
    ----------
    frame : uint8 (h, w, 3), BGR; rows may be apart (a crop), the pixels of a row not.  IN
    out : float32 (3 * height * width,).  OUT
    height, width : of the model's input
    top, left, inner_height, inner_width : where the image goes; around it `pad`
    mean, scale : float32 (3,), in the frame's order of channels (B, G, R).  IN
    rgb : the model wants red first
    planar : the model wants planes (3, height, width), not pixels (height, width, 3)
    pad : value around the image, already normalised

    Raises
    ------
    ValueError
        If shapes do not agree.

    Notes
    -----
    Bilinear with pixel centres at .5; the vertical weight has 8 bits, which is below half a grey level.
    """

def suppress(
    boxes: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int32],
    limit: float,
    keep: npt.NDArray[np.uint8],
) -> None:
    """Mark boxes to keep: greedy suppression of those that overlap a better one of their label.

    Parameters
    ----------
    boxes : float32 (n, 4), x1 y1 x2 y2.  IN
    order : int64 (n,), best first.  IN
    labels : int32 (n,).  IN
    limit : intersection over union above which the lesser box goes
    keep : uint8 (n,).  OUT

    Raises
    ------
    ValueError
        If shapes do not agree or `order` points outside.
    """
