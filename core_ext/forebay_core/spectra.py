"""Energies of bands and single frequencies of evenly sampled windows.

Compiled, or the reference twin under FOREBAY_PURE=1.
"""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from forebay_core._spectra import band_energies, goertzel
else:
    from forebay_core.reference.spectra import band_energies, goertzel

__all__ = ["band_energies", "goertzel"]
