// One token through one half of a decoder layer: norm, mixer or feed-forward, residual. See kernels.cpp for the arguments.
//
// Decoding reads every weight once for each token, so it can be as fast as memory and no faster: what is between the
// matrix-vector products is done in between, in float32, without a trip to Python.

template <class E>
static inline Vec bias_or_zero(const E* bias, long at, int width) { return bias ? load(bias + at, width) : Vec{}; }

// Dot products of ROWS_AT_ONCE neighbouring rows of W (row-major, `columns` wide) with x. The rows that come next are asked
// for in time: several short rows side by side are no pattern a processor foresees.
template <class E>
static inline void dot_rows(const E* W, long columns, const float* x, float* sums) {
    Vec total[ROWS_AT_ONCE] = {};
    const long group = ROWS_AT_ONCE * columns, ahead = (PREFETCH / (long)sizeof(E) + group - 1) / group * group;
    constexpr int LINE = 64 / sizeof(E);
    long c = 0;
    for (; c + LINE <= columns; c += LINE) {
        for (int r = 0; r < ROWS_AT_ONCE; ++r) __builtin_prefetch(W + ahead + r * columns + c);
        for (int part = 0; part < LINE; part += LANES) {
            const Vec v = load(x + c + part);
            for (int r = 0; r < ROWS_AT_ONCE; ++r) total[r] += load(W + r * columns + c + part) * v;
        }
    }
    for (; c + LANES <= columns; c += LANES) {
        const Vec v = load(x + c);
        for (int r = 0; r < ROWS_AT_ONCE; ++r) total[r] += load(W + r * columns + c) * v;
    }
    if (c < columns) {
        const int width = (int)(columns - c);
        const Vec v = load(x + c, width);
        for (int r = 0; r < ROWS_AT_ONCE; ++r) total[r] += load(W + r * columns + c, width) * v;
    }
    for (int r = 0; r < ROWS_AT_ONCE; ++r) sums[r] = sum_lanes(total[r]);
}
template <class E>
static inline float dot_row(const E* W, long columns, const float* x) {
    Vec total{};
    for (long c = 0; c < columns; c += LANES) {
        const int width = columns - c < LANES ? (int)(columns - c) : LANES;
        total += load(W + c, width) * load(x + c, width);
    }
    return sum_lanes(total);
}

// y[first..last) = W x (+ bias), W (rows, columns).
template <class E>
static inline void multiply_rows(const E* W, const E* bias, long columns, const float* x, float* y, long first, long last) {
    long r = first;
    for (; r + ROWS_AT_ONCE <= last; r += ROWS_AT_ONCE) dot_rows(W + r * columns, columns, x, y + r);
    for (; r < last; ++r) y[r] = dot_row(W + r * columns, columns, x);
    if (bias) for (r = first; r < last; ++r) y[r] += to_float(bias[r]);
}

// The same over all rows, in parallel where there is enough to read. `then(first, last)` runs behind each block of rows.
template <class E, class Then>
static void multiply(const Team& team, const E* W, const E* bias, long rows, long columns, const float* x, float* y,
                     const Then& then) {
    const long block = block_of_rows(columns * (long)sizeof(E));
    parallel(team, (rows + block - 1) / block, rows * columns, [&](long task) {
        const long first = task * block, last = first + block < rows ? first + block : rows;
        multiply_rows(W, bias, columns, x, y, first, last);
        then(first, last);
    });
}
template <class E>
static void multiply(const Team& team, const E* W, const E* bias, long rows, long columns, const float* x, float* y) {
    multiply(team, W, bias, rows, columns, x, y, [](long, long) {});
}

template <class E, class X>
static inline void norm_to_float(const X* x, const E* weight, float* y, long size, float eps) {
    const float scale = inverse_rms(x, size, eps);
    for (long c = 0; c < size; c += LANES) {
        const int width = size - c < LANES ? (int)(size - c) : LANES;
        store(y + c, load(weight + c, width) * (load(x + c, width) * scale), width);
    }
}

template <class E>
static inline void store_sum(E* y, const E* x, const float* add, long first, long last) {
    for (long c = first; c < last; c += LANES) {
        const int width = last - c < LANES ? (int)(last - c) : LANES;
        store(y + c, load(x + c, width) + load(add + c, width), width);
    }
}

// Moves the window on by one input and returns SiLU of the convolution, for channels [0, D).
template <class E>
static void conv_step(const MambaStep<E>& s, const float* x, float* y) {
    const int past = s.K - 1;
    for (long d = 0; d < s.D; ++d) {
        float sum = (s.conv_bias ? to_float(s.conv_bias[d]) : 0.0f) + to_float(s.conv_weight[d * s.K + past]) * x[d];
        for (int k = 0; k < past; ++k) sum += to_float(s.conv_weight[d * s.K + k]) * to_float(s.window[k * s.D + d]);
        y[d] = sum;
    }
    for (long d = 0; d < s.D; d += LANES) {
        const int width = s.D - d < LANES ? (int)(s.D - d) : LANES;
        store(y + d, silu(load(y + d, width)), width);
        if (past) store(s.next_window + (past - 1) * s.D + d, load(x + d, width), width);
    }
    if (past > 1) __builtin_memcpy(s.next_window, s.window + s.D, (past - 1) * s.D * sizeof(E));
}

// One step of the recurrence for one channel, whose states lie in vector lanes here. Returns C . h.
template <class E>
static inline float advance_channel(const MambaStep<E>& s, long d, float step, float input, const float* B, const float* C) {
    Vec total{};
    for (int n = 0; n < s.N; n += LANES) {
        const int width = s.N - n < LANES ? s.N - n : LANES;
        const Vec A2 = exp2_vec(load(s.A_log + d * s.N + n, width) * LOG2E) * -LOG2E;
        const Vec h = exp2_vec(A2 * step) * load(s.h + d * s.N + n, width) + load(B + n, width) * input;
        store(s.next_h + d * s.N + n, h, width);
        total += h * load(C + n, width);
    }
    return sum_lanes(total);
}

// y = x + out_proj(scan(conv(in_proj(norm(x))))). `memory` holds mamba_step_floats floats.
template <class E>
static void mamba_step(const Team& team, const MambaStep<E>& s, float* memory) {
    const long low = s.R + 2L * s.N;
    float *normal = memory, *xz = normal + padded(s.H), *conv = xz + padded(2 * s.D), *mixed = conv + padded(s.D);
    float *projected = mixed + padded(s.D), *maps = projected + padded(low), *out = maps + padded(low);
    const float* gate = xz + s.D;
    norm_to_float(s.x, s.norm, normal, s.H, s.eps);
    multiply(team, s.in_proj, s.in_bias, 2 * s.D, s.H, normal, xz);
    conv_step(s, xz, conv);
    multiply(team, s.x_proj, (const E*)nullptr, low, s.D, conv, projected);
    float *dt = maps, *B = dt + s.R, *C = B + s.N;
    norm_to_float(projected, s.dt_norm, dt, s.R, s.eps);
    norm_to_float(projected + s.R, s.b_norm, B, s.N, s.eps);
    norm_to_float(projected + s.R + s.N, s.c_norm, C, s.N, s.eps);
    multiply(team, s.dt_proj, s.dt_bias, s.D, s.R, dt, mixed, [&](long first, long last) {
        for (long d = first; d < last; d += LANES) {
            const int width = last - d < LANES ? (int)(last - d) : LANES;
            const Vec step = softplus(load(mixed + d, width)), x = load(conv + d, width), input = step * x;
            Vec y{};
            for (int lane = 0; lane < width; ++lane) y[lane] = advance_channel(s, d + lane, step[lane], input[lane], B, C);
            y += load(s.skip + d, width) * x;
            store(mixed + d, y * silu(load(gate + d, width)), width);
        }
    });
    multiply(team, s.out_proj, s.out_bias, s.H, s.D, mixed, out,
             [&](long first, long last) { store_sum(s.y, s.x, out, first, last); });
}

// Weights and indices of the best experts, best first: softmax over all, not renormalised.
template <class E>
static void route(const FeedForwardStep<E>& s, const float* x, float* weights, long* chosen) {
    float logits[MAX_EXPERTS], highest = -__builtin_inff(), total = 0.0f;
    for (long e = 0; e < s.experts; ++e) {
        logits[e] = dot_row(s.router + e * s.H, s.H, x);
        highest = logits[e] > highest ? logits[e] : highest;
    }
    for (long e = 0; e < s.experts; ++e) total += logits[e] = exp2_vec(splat((logits[e] - highest) * LOG2E))[0];
    for (int k = 0; k < s.top_k; ++k) {
        long best = 0;
        for (long e = 1; e < s.experts; ++e) best = logits[e] > logits[best] ? e : best;
        chosen[k] = best;
        weights[k] = logits[best] / total;
        logits[best] = -1.0f;
    }
}

// y = x + the gated MLP of norm(x), or the weighted sum of the best experts' MLPs. `memory` holds feed_forward_step_floats.
template <class E>
static void feed_forward_step(const Team& team, const FeedForwardStep<E>& s, float* memory) {
    float *normal = memory, *inner = normal + padded(s.H), *up_scratch = inner + s.top_k * padded(s.F), *out = up_scratch + s.top_k * padded(s.F);
    float weights[MAX_EXPERTS] = {1.0f};
    long chosen[MAX_EXPERTS] = {0};
    norm_to_float(s.x, s.norm, normal, s.H, s.eps);
    if (s.router) route(s, normal, weights, chosen);
    const long block = block_of_rows(2 * s.H * (long)sizeof(E)), blocks = (s.F + block - 1) / block;
    parallel(team, s.top_k * blocks, 2 * s.top_k * s.F * s.H, [&](long task) {
        const long k = task / blocks, first = task % blocks * block, last = first + block < s.F ? first + block : s.F;
        const E *gate = s.gate + chosen[k] * s.gate_expert, *up = s.up + chosen[k] * s.gate_expert;
        float *a = inner + k * padded(s.F), *b = up_scratch + k * padded(s.F);
        multiply_rows(gate, (const E*)nullptr, s.H, normal, a, first, last);
        multiply_rows(up, (const E*)nullptr, s.H, normal, b, first, last);
        for (long c = first; c < last; c += LANES) {
            const int width = last - c < LANES ? (int)(last - c) : LANES;
            store(a + c, silu(load(a + c, width)) * load(b + c, width) * weights[k], width);
        }
    });
    const long rows = block_of_rows(s.top_k * s.F * (long)sizeof(E));
    parallel(team, (s.H + rows - 1) / rows, s.top_k * s.F * s.H, [&](long task) {
        const long first = task * rows, last = first + rows < s.H ? first + rows : s.H;
        float* part = out + padded(s.H);
        for (int k = 0; k < s.top_k; ++k) {
            float* target = k ? part : out;
            multiply_rows(s.down + chosen[k] * s.H * s.F, (const E*)nullptr, s.F, inner + k * padded(s.F), target, first, last);
            if (k) for (long r = first; r < last; ++r) out[r] += part[r];
        }
        store_sum(s.y, s.x, out, first, last);
    });
}
