"""A pair of doubles in one register, for loops that compilers do not turn into vectors by themselves.

Without -ffast-math (which would break NaN) GCC turns a comparison and two selections into branches, and a
sorting network of branches runs at a third of the speed. Only what the baseline of each architecture
has: SSE2 on x86-64, NEON on ARM64; elsewhere a "pair" is one double.
"""

cdef extern from * nogil:
    """
    #ifndef FOREBAY_LANES
    #if defined(__SSE2__)
      #include <emmintrin.h>
      #define FOREBAY_LANES 2
      typedef __m128d fb_lanes;
      #define fb_load(p) _mm_loadu_pd(p)
      #define fb_store(p, a) _mm_storeu_pd((p), (a))
      #define fb_fill(x) _mm_set1_pd(x)
      #define fb_add(a, b) _mm_add_pd((a), (b))
      #define fb_sub(a, b) _mm_sub_pd((a), (b))
      #define fb_mul(a, b) _mm_mul_pd((a), (b))
      #define fb_min(a, b) _mm_min_pd((a), (b))
      #define fb_max(a, b) _mm_max_pd((a), (b))
    #elif defined(__aarch64__)
      #include <arm_neon.h>
      #define FOREBAY_LANES 2
      typedef float64x2_t fb_lanes;
      #define fb_load(p) vld1q_f64(p)
      #define fb_store(p, a) vst1q_f64((p), (a))
      #define fb_fill(x) vdupq_n_f64(x)
      #define fb_add(a, b) vaddq_f64((a), (b))
      #define fb_sub(a, b) vsubq_f64((a), (b))
      #define fb_mul(a, b) vmulq_f64((a), (b))
      #define fb_min(a, b) vminq_f64((a), (b))
      #define fb_max(a, b) vmaxq_f64((a), (b))
    #else
      #define FOREBAY_LANES 1
      typedef double fb_lanes;
      #define fb_load(p) (*(p))
      #define fb_store(p, a) (*(p) = (a))
      #define fb_fill(x) (x)
      #define fb_add(a, b) ((a) + (b))
      #define fb_sub(a, b) ((a) - (b))
      #define fb_mul(a, b) ((a) * (b))
      static inline double fb_min(double a, double b) { return a < b ? a : b; }
      static inline double fb_max(double a, double b) { return a > b ? a : b; }
    #endif
    #endif
    """
    const int LANES "FOREBAY_LANES"  # doubles in a register: 2 or 1
    ctypedef struct lanes "fb_lanes":
        pass
    lanes load "fb_load"(const double* place)
    void store "fb_store"(double* place, lanes a)
    lanes fill "fb_fill"(double value)  # the same in each lane
    lanes add "fb_add"(lanes a, lanes b)
    lanes sub "fb_sub"(lanes a, lanes b)
    lanes mul "fb_mul"(lanes a, lanes b)
    lanes lower "fb_min"(lanes a, lanes b)  # unspecified for NaN
    lanes upper "fb_max"(lanes a, lanes b)
