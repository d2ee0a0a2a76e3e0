// Kernels that treat each row by itself: RMSNorm and SwiGLU, forward and backward. See kernels.cpp for the arguments.

template <class E>
static inline float inverse_rms(const E* x, long size, float eps) {
    Vec squares{};
    for (long c = 0; c < size; c += LANES) {
        const Vec v = load(x + c, size - c < LANES ? (int)(size - c) : LANES);
        squares += v * v;
    }
    return 1.0f / __builtin_sqrtf(sum_lanes(squares) / (float)size + eps);
}

// What is normalised is rounded to the type of x before the weight multiplies it, as the published checkpoints expect.
static inline Vec rounded(Vec v, const float*) { return v; }
static inline Vec rounded(Vec v, const bf16*) { return widen(narrow(v)); }

template <class E>
static inline void norm_row(const E* x, const E* weight, E* y, long size, float eps) {
    const float scale = inverse_rms(x, size, eps);
    for (long c = 0; c < size; c += LANES) {
        const int width = size - c < LANES ? (int)(size - c) : LANES;
        store(y + c, load(weight + c, width) * rounded(load(x + c, width) * scale, x), width);
    }
}

template <class E>
static void norm_forward(const Norm<E>& s, long task, void*) {
    const long end = (task + 1) * ROWS < s.rows ? (task + 1) * ROWS : s.rows;
    for (long row = task * ROWS; row < end; ++row) norm_row(s.x + row * s.x_row, s.weight, s.y + row * s.size, s.size, s.eps);
}

template <class E>
static void norm_backward(const Norm<E>& s, long task, void*) {
    const long end = (task + 1) * ROWS < s.rows ? (task + 1) * ROWS : s.rows;
    float* dweight = s.dweight + task * s.size;
    for (long c = 0; c < s.size; ++c) dweight[c] = 0.0f;
    for (long row = task * ROWS; row < end; ++row) {
        const E *x = s.x + row * s.x_row, *dy = s.dy + row * s.size;
        const float scale = inverse_rms(x, s.size, s.eps);
        Vec along{};
        for (long c = 0; c < s.size; c += LANES) {
            const int width = s.size - c < LANES ? (int)(s.size - c) : LANES;
            const Vec normal = load(x + c, width) * scale, d = load(dy + c, width);
            along += normal * d * load(s.weight + c, width);
            store(dweight + c, load(dweight + c, width) + d * rounded(normal, x), width);
        }
        const float mean = sum_lanes(along) / (float)s.size;
        for (long c = 0; c < s.size; c += LANES) {
            const int width = s.size - c < LANES ? (int)(s.size - c) : LANES;
            const Vec normal = load(x + c, width) * scale, d = load(dy + c, width) * load(s.weight + c, width);
            store(s.dx + row * s.size + c, (d - normal * mean) * scale, width);
        }
    }
}

template <class E>
static void swiglu_forward(const Swiglu<E>& s, long task, void*) {
    const long end = (task + 1) * ROWS < s.rows ? (task + 1) * ROWS : s.rows;
    for (long row = task * ROWS; row < end; ++row) {
        const E *gate = s.gate + row * s.gate_row, *up = s.up + row * s.up_row;
        for (long c = 0; c < s.size; c += LANES) {
            const int width = s.size - c < LANES ? (int)(s.size - c) : LANES;
            store(s.y + row * s.size + c, silu(load(gate + c, width)) * load(up + c, width), width);
        }
    }
}

template <class E>
static void swiglu_backward(const Swiglu<E>& s, long task, void*) {
    const long end = (task + 1) * ROWS < s.rows ? (task + 1) * ROWS : s.rows;
    for (long row = task * ROWS; row < end; ++row) {
        const E *gate = s.gate + row * s.gate_row, *up = s.up + row * s.up_row, *dy = s.dy + row * s.size;
        E *dgate = s.dgate + row * s.slope_row, *dup = s.dup + row * s.slope_row;
        for (long c = 0; c < s.size; c += LANES) {
            const int width = s.size - c < LANES ? (int)(s.size - c) : LANES;
            Vec value;
            const Vec d = load(dy + c, width), slope = silu_gradient(load(gate + c, width), value);
            store(dgate + c, d * load(up + c, width) * slope, width);
            store(dup + c, d * value, width);
        }
    }
}
