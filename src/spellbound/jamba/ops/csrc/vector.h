// Vectors of LANES floats and the few functions the kernels are made of, for one instruction set.
//
// kernels.cpp includes this file and the kernels once per instruction set, inside a namespace of its own, with LANES defined
// as the floats in one vector. They must include nothing themselves: they are compiled under a target pragma that standard
// headers must not see.

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int IVec __attribute__((vector_size(LANES * 4)));
typedef unsigned UVec __attribute__((vector_size(LANES * 4)));
typedef unsigned short HVec __attribute__((vector_size(LANES * 2)));

constexpr float LOG2E = 1.44269504088896341f;

static inline Vec splat(float value) { return value - Vec{}; }
static inline Vec positive_part(Vec x) { return x > 0.0f ? x : Vec{}; }
static inline Vec magnitude(Vec x) { return (Vec)((IVec)x & 0x7fffffff); }

// 2^x. Relative error at most 1.04e-7 (2^-23.2) for -126 <= x <= 126, measured against float64; below -126 at most 2^-125,
// above 126 at least 2^126. The constant term is exactly 1, so 2^0 is exactly 1 and a channel whose step is 0 keeps its
// state unchanged however long the context. Coefficients: minimax of 2^r on [-1/2, 1/2].
static inline Vec exp2_vec(Vec x) {
#if LANES == 16
    const Vec whole = _mm512_maskz_roundscale_ps(0xffff, x, 0x08);  // to nearest; the unmasked forms warn in gcc 12
    const Vec r = x - whole;
#else
    const Vec rounder = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low mantissa bits
    Vec clamped = x < -126.0f ? splat(-126.0f) : x;  // written so that NaN stays NaN
    clamped = clamped > 126.0f ? splat(126.0f) : clamped;
    const Vec shifted = clamped + rounder;
    const Vec r = clamped - (shifted - rounder);
#endif
    Vec p = splat(1.535336188319500e-4f);
    p = p * r + 1.339887440266574e-3f;
    p = p * r + 9.618437357674640e-3f;
    p = p * r + 5.550332471162809e-2f;
    p = p * r + 2.402264791363012e-1f;
    p = p * r + 6.931472028550421e-1f;
    p = p * r + 1.0f;
#if LANES == 16
    return _mm512_maskz_scalef_ps(0xffff, p, whole);
#else
    return (Vec)((IVec)p + ((IVec)shifted << 23));  // the integer's low bits become the exponent's; the rounder's fall out
#endif
}

// What softplus, its derivative and SiLU share: e = exp(-|x|) in (0, 1], which never overflows.
static inline Vec exp_minus_magnitude(Vec x) { return exp2_vec(magnitude(x) * -LOG2E); }

// 1 / (1 + exp(-x)), given e = exp(-|x|).
static inline Vec sigmoid_of(Vec x, Vec e) { return (x >= 0.0f ? splat(1.0f) : e) / (e + 1.0f); }

static inline Vec silu(Vec x) { return x * sigmoid_of(x, exp_minus_magnitude(x)); }

// d silu(x) / dx, and silu(x) itself.
static inline Vec silu_gradient(Vec x, Vec& value) {
    const Vec sigmoid = sigmoid_of(x, exp_minus_magnitude(x));
    value = x * sigmoid;
    return sigmoid + value * (1.0f - sigmoid);
}

// log(1 + e) for e in [0, 1], e times a polynomial, so that it is right relatively down to the smallest e. Relative error
// at most 1.9e-7 (2^-22.3), where products and sums are fused 1.5e-7. Coefficients: weighted minimax of log1p(e) / e on
// [0, 1], the constant term exactly 1.
static inline Vec log1p_vec(Vec e) {
    Vec p = splat(5.364824536e-03f);
    p = p * e - 3.006579337e-02f;
    p = p * e + 7.920453773e-02f;
    p = p * e - 1.375380256e-01f;
    p = p * e + 1.915365506e-01f;
    p = p * e - 2.485716370e-01f;
    p = p * e + 3.332132262e-01f;
    p = p * e - 4.999964796e-01f;
    p = p * e + 1.0f;
    return p * e;
}

static inline Vec softplus(Vec x) { return positive_part(x) + log1p_vec(exp_minus_magnitude(x)); }

// Sum of all lanes, half to half.
static inline float sum_lanes(Vec v) {
    constexpr int QUARTERS = LANES / 4;
    typedef float Four __attribute__((vector_size(16)));
    Four parts[QUARTERS];
    __builtin_memcpy(parts, &v, sizeof v);
    for (int count = QUARTERS / 2; count; count /= 2)
        for (int i = 0; i < count; ++i) parts[i] += parts[i + count];
    return (parts[0][0] + parts[0][2]) + (parts[0][1] + parts[0][3]);
}

// The same of several vectors, four of which share their shuffles where there are such: y[i] = sum_lanes(v[i]).
#if LANES == 16
static inline Vec sum_halves(Vec a, Vec b) {  // of a, then of b
    return (Vec)_mm512_maskz_shuffle_f32x4(0xffff, a, b, 0x44) + (Vec)_mm512_maskz_shuffle_f32x4(0xffff, a, b, 0xee);
}
static inline void sum_lanes_of_four(const Vec* v, float* y) {
    const Vec a = sum_halves(v[0], v[1]), b = sum_halves(v[2], v[3]);
    Vec sums = (Vec)_mm512_maskz_shuffle_f32x4(0xffff, a, b, 0x88) + (Vec)_mm512_maskz_shuffle_f32x4(0xffff, a, b, 0xdd);
    sums += (Vec)_mm512_maskz_permute_ps(0xffff, sums, 0x4e);
    sums += (Vec)_mm512_maskz_permute_ps(0xffff, sums, 0xb1);
    for (int i = 0; i < 4; ++i) y[i] = sums[4 * i];
}
#endif
template <int COUNT>
static inline void sum_lanes(const Vec* v, float* y) {
    int i = 0;
#if LANES == 16
    for (; i + 4 <= COUNT; i += 4) sum_lanes_of_four(v + i, y + i);
#endif
    for (; i < COUNT; ++i) y[i] = sum_lanes(v[i]);
}

// bfloat16: the upper half of a float; stored rounded to nearest, ties to even.
static inline Vec widen(HVec half) { return (Vec)(__builtin_convertvector(half, UVec) << 16); }
static inline HVec narrow(Vec v) {
    const UVec bits = (UVec)v;
    const UVec rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const UVec quiet_nan = (bits >> 16) | 0x40u;
    return __builtin_convertvector(v == v ? rounded : quiet_nan, HVec);
}

// A vector from or to memory of either type; the second pair for the last channels, fewer than a vector: missing lanes read
// as 0 and are not written.
static inline Vec load(const float* from) { Vec v; __builtin_memcpy(&v, from, sizeof v); return v; }
static inline Vec load(const bf16* from) { HVec v; __builtin_memcpy(&v, from, sizeof v); return widen(v); }
static inline void store(float* to, Vec v) { __builtin_memcpy(to, &v, sizeof v); }
static inline void store(bf16* to, Vec v) { const HVec half = narrow(v); __builtin_memcpy(to, &half, sizeof half); }
#if LANES == 16
static inline __mmask16 first_lanes(int width) { return (__mmask16)(0xffffu >> (LANES - width)); }
static inline Vec load(const float* from, int width) { return _mm512_maskz_loadu_ps(first_lanes(width), from); }
static inline Vec load(const bf16* from, int width) { return widen((HVec)_mm256_maskz_loadu_epi16(first_lanes(width), from)); }
static inline void store(float* to, Vec v, int width) { _mm512_mask_storeu_ps(to, first_lanes(width), v); }
static inline void store(bf16* to, Vec v, int width) { _mm256_mask_storeu_epi16(to, first_lanes(width), (__m256i)narrow(v)); }
#else
static inline Vec load(const float* from, int width) {
    if (width == LANES) return load(from);
    Vec v{};
    __builtin_memcpy(&v, from, width * sizeof(float));
    return v;
}
static inline Vec load(const bf16* from, int width) {
    if (width == LANES) return load(from);
    HVec v{};
    __builtin_memcpy(&v, from, width * sizeof(bf16));
    return widen(v);
}
static inline void store(float* to, Vec v, int width) {
    if (width == LANES) store(to, v);
    else __builtin_memcpy(to, &v, width * sizeof(float));
}
static inline void store(bf16* to, Vec v, int width) {
    const HVec half = narrow(v);
    __builtin_memcpy(to, &half, width * sizeof(bf16));
}
#endif
