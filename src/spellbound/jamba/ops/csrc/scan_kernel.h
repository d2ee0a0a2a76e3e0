// The selective scan for one instruction set. scan.cpp includes this file once per instruction set, inside a
// namespace of its own, with LANES defined as the floats in one vector. It must include nothing itself: it is
// compiled under a target pragma that standard headers must not see.
//
// B batch, T time, D channels, N states. Channels sit in vector lanes; time is a loop; the state stays in registers.

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int IVec __attribute__((vector_size(LANES * 4)));

static inline Vec splat(float value) { return value - Vec{}; }

// 2^x. Relative error at most 1.04e-7 (2^-23.2) for -126 <= x <= 126, measured against float64 with and without fused
// multiply-add; 0 below -126, 2^126 above 126. The constant term is exactly 1, so 2^0 is exactly 1 and a channel whose step
// is 0 keeps its state unchanged however long the context. Coefficients: minimax of 2^r on [-1/2, 1/2].
static inline Vec exp2_vec(Vec x) {
    const Vec rounder = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low mantissa bits
    Vec clamped = x > 126.0f ? splat(126.0f) : x;
    clamped = clamped < -127.0f ? splat(-127.0f) : clamped;
    const Vec shifted = clamped + rounder;
    const Vec r = clamped - (shifted - rounder);
    Vec p = splat(1.535336188319500e-4f);
    p = p * r + 1.339887440266574e-3f;
    p = p * r + 9.618437357674640e-3f;
    p = p * r + 5.550332471162809e-2f;
    p = p * r + 2.402264791363012e-1f;
    p = p * r + 6.931472028550421e-1f;
    p = p * r + 1.0f;
    const IVec exponent = ((IVec)shifted - (IVec)rounder + 127) << 23;
    const Vec result = p * (Vec)exponent;
    return x < -126.0f ? Vec{} : result;
}

static inline float sum_lanes(Vec v) {
    float total = 0.0f;
    for (int lane = 0; lane < LANES; ++lane) total += v[lane];
    return total;
}

// Copies a (steps, width) block between rows that are `stride` apart and packed vectors; missing lanes read as 0.
static inline void pack(Vec* tile, const float* rows, long stride, int steps, int width) {
    for (int t = 0; t < steps; ++t) {
        Vec v{};
        __builtin_memcpy(&v, rows + t * stride, width * sizeof(float));
        tile[t] = v;
    }
}
static inline void pack_full(Vec* tile, const float* rows, long stride, int steps) {
    for (int t = 0; t < steps; ++t) __builtin_memcpy(&tile[t], rows + t * stride, sizeof(Vec));
}
static inline void load_tile(Vec* tile, const float* rows, long stride, int steps, int width) {
    if (width == LANES) pack_full(tile, rows, stride, steps);
    else pack(tile, rows, stride, steps, width);
}
static inline void store_tile(float* rows, const Vec* tile, long stride, int steps, int width) {
    if (width == LANES)
        for (int t = 0; t < steps; ++t) __builtin_memcpy(rows + t * stride, &tile[t], sizeof(Vec));
    else
        for (int t = 0; t < steps; ++t) __builtin_memcpy(rows + t * stride, &tile[t], width * sizeof(float));
}

// Channel-major (width, N) memory to N vectors of lanes, and back.
static inline void load_states(Vec* h, const float* source, int N, int width) {
    for (int n = 0; n < N; ++n) {
        Vec v{};
        for (int lane = 0; lane < width; ++lane) v[lane] = source[lane * N + n];
        h[n] = v;
    }
}
static inline void store_states(float* target, const Vec* h, int N, int width) {
    for (int n = 0; n < N; ++n)
        for (int lane = 0; lane < width; ++lane) target[lane * N + n] = h[n][lane];
}

// One tile forward. STATES is N when known at compile time (the state then lives in registers), else 0.
template <int STATES>
static inline void forward_tile(Vec* __restrict h_memory, const Vec* A2, const Vec* x, const Vec* dt, const float* B,
                                const float* C, Vec skip, const unsigned char* starts, Vec* y, int steps, int runtime_N) {
    const int N = STATES ? STATES : runtime_N;
    Vec registers[STATES ? STATES : 1];
    Vec* h = STATES ? registers : h_memory;
    if (STATES) for (int n = 0; n < N; ++n) h[n] = h_memory[n];
    for (int t = 0; t < steps; ++t) {
        if (starts && starts[t]) for (int n = 0; n < N; ++n) h[n] = Vec{};
        const Vec step = dt[t], input = step * x[t];
        const float *b = B + (long)t * N, *c = C + (long)t * N;
        Vec even = skip * x[t], odd{};
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            h[n] = exp2_vec(step * A2[n]) * h[n] + input * b[n];
            if (n & 1) odd += h[n] * c[n];
            else even += h[n] * c[n];
        }
        y[t] = even + odd;
    }
    if (STATES) for (int n = 0; n < N; ++n) h_memory[n] = h[n];
}

static void forward_block(const ScanForward& s, long batch, long first, int width, Vec* scratch) {
    const int N = s.N;
    Vec *A2 = scratch, *h = A2 + N, *x = h + N, *dt = x + TILE, *y = dt + TILE;
    load_states(A2, s.A + first * N, N, width);
    for (int n = 0; n < N; ++n) A2[n] *= LOG2E;
    if (s.h0) load_states(h, s.h0 + (batch * s.D + first) * N, N, width);
    else for (int n = 0; n < N; ++n) h[n] = Vec{};
    Vec skip{};
    if (s.skip) __builtin_memcpy(&skip, s.skip + first, width * sizeof(float));
    for (long begin = 0, tile = 0; begin < s.T; begin += TILE, ++tile) {
        const int steps = s.T - begin < TILE ? (int)(s.T - begin) : TILE;
        const long row = batch * s.T + begin, at = row * s.D + first;
        if (s.tile_states)
            __builtin_memcpy(s.tile_states + ((batch * s.tiles + tile) * s.padded_D + first) * N, h, N * sizeof(Vec));
        load_tile(x, s.x + at, s.D, steps, width);
        load_tile(dt, s.dt + at, s.D, steps, width);
        const unsigned char* starts = s.starts ? s.starts + row : nullptr;
        if (N == 16) forward_tile<16>(h, A2, x, dt, s.B + row * N, s.C + row * N, skip, starts, y, steps, N);
        else forward_tile<0>(h, A2, x, dt, s.B + row * N, s.C + row * N, skip, starts, y, steps, N);
        store_tile(s.y + at, y, s.D, steps, width);
    }
    store_states(s.hT + (batch * s.D + first) * N, h, N, width);
}

// Everything one tile of the backward pass needs to remember: the decay and the state before and after each step.
struct BackwardScratch {
    Vec *A2, *A, *h, *x, *dt, *dy, *dx, *ddt, *decay, *states, *dB, *dC;
};
static inline BackwardScratch carve(Vec* memory, int N) {
    BackwardScratch w;
    Vec** parts[] = {&w.A2, &w.A, &w.h, &w.x, &w.dt, &w.dy, &w.dx, &w.ddt, &w.decay, &w.states, &w.dB, &w.dC};
    const long sizes[] = {N, N, N, TILE, TILE, TILE, TILE, TILE, (long)TILE * N, (long)TILE * N, (long)TILE * N, (long)TILE * N};
    for (int i = 0; i < 12; ++i) { *parts[i] = memory; memory += sizes[i]; }
    return w;
}

// Runs the tile forward again, keeping decay_t = exp(dt_t A) (0 where a document starts) and h_t.
template <int STATES>
static inline void replay_tile(const BackwardScratch& w, const float* B, const unsigned char* starts, int steps, int runtime_N) {
    const int N = STATES ? STATES : runtime_N;
    for (int t = 0; t < steps; ++t) {
        const Vec step = w.dt[t], input = step * w.x[t];
        const Vec* before = t ? w.states + (long)(t - 1) * N : w.h;
        Vec *decay = w.decay + (long)t * N, *after = w.states + (long)t * N;
        const float* b = B + (long)t * N;
        const Vec keep = splat(starts && starts[t] ? 0.0f : 1.0f);
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            decay[n] = exp2_vec(step * w.A2[n]) * keep;
            after[n] = decay[n] * before[n] + input * b[n];
        }
    }
}

// Walks one tile backwards. dh is the gradient of the state after the step; dA and dD accumulate over time.
template <int STATES>
static inline void reverse_tile(const BackwardScratch& w, Vec* dh, Vec* dA, Vec skip, Vec& dskip, const float* B,
                                const float* C, int steps, int runtime_N) {
    const int N = STATES ? STATES : runtime_N;
    for (int t = steps - 1; t >= 0; --t) {
        const Vec step = w.dt[t], x = w.x[t], dy = w.dy[t], input = step * x;
        const Vec* before = t ? w.states + (long)(t - 1) * N : w.h;
        const Vec *decay = w.decay + (long)t * N, *after = w.states + (long)t * N;
        Vec *dB = w.dB + (long)t * N, *dC = w.dC + (long)t * N;
        const float *b = B + (long)t * N, *c = C + (long)t * N;
        Vec dinput{}, dstep{};
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            const Vec g = dh[n] + dy * c[n];
            dC[n] += dy * after[n];
            dB[n] += g * input;
            dinput += g * b[n];
            const Vec carried = g * decay[n], through = carried * before[n];
            dstep += through * w.A[n];
            dA[n] += through * step;
            dh[n] = carried;
        }
        w.ddt[t] = dstep + dinput * x;
        w.dx[t] = dinput * step + dy * skip;
        dskip += dy * x;
    }
}

// One group of channels: every tile from the last to the first, every vector of the group inside a tile, so that
// dB and dC of a tile are summed over the group while they are in cache.
static void backward_group(const ScanBackward& s, long batch, long group, Vec* scratch) {
    const int N = s.N;
    const long first = group * s.group_width, last = first + s.group_width < s.D ? first + s.group_width : s.D;
    const int vectors = (int)((last - first + LANES - 1) / LANES);
    const BackwardScratch w = carve(scratch, N);
    Vec *dh_all = w.dC + (long)TILE * N, *dA_all = dh_all + (long)vectors * N, *dskip = dA_all + (long)vectors * N;
    for (int v = 0; v < vectors; ++v) {
        const long channel = first + (long)v * LANES;
        const int width = last - channel < LANES ? (int)(last - channel) : LANES;
        if (s.dhT) load_states(dh_all + (long)v * N, s.dhT + (batch * s.D + channel) * N, N, width);
        else for (int n = 0; n < N; ++n) dh_all[(long)v * N + n] = Vec{};
        for (int n = 0; n < N; ++n) dA_all[(long)v * N + n] = Vec{};
        dskip[v] = Vec{};
    }
    for (long tile = s.tiles - 1; tile >= 0; --tile) {
        const long begin = tile * TILE, row = batch * s.T + begin;
        const int steps = s.T - begin < TILE ? (int)(s.T - begin) : TILE;
        const unsigned char* starts = s.starts ? s.starts + row : nullptr;
        const float *B = s.B + row * N, *C = s.C + row * N;
        for (long i = 0; i < (long)steps * N; ++i) w.dB[i] = w.dC[i] = Vec{};
        for (int v = 0; v < vectors; ++v) {
            const long channel = first + (long)v * LANES, at = row * s.D + channel;
            const int width = last - channel < LANES ? (int)(last - channel) : LANES;
            load_states(w.A, s.A + channel * N, N, width);
            for (int n = 0; n < N; ++n) w.A2[n] = w.A[n] * LOG2E;
            __builtin_memcpy(w.h, s.tile_states + ((batch * s.tiles + tile) * s.padded_D + channel) * N, N * sizeof(Vec));
            load_tile(w.x, s.x + at, s.D, steps, width);
            load_tile(w.dt, s.dt + at, s.D, steps, width);
            load_tile(w.dy, s.dy + at, s.D, steps, width);
            Vec skip{};
            if (s.skip) __builtin_memcpy(&skip, s.skip + channel, width * sizeof(float));
            Vec *dh = dh_all + (long)v * N, *dA = dA_all + (long)v * N;
            if (N == 16) {
                replay_tile<16>(w, B, starts, steps, N);
                reverse_tile<16>(w, dh, dA, skip, dskip[v], B, C, steps, N);
            } else {
                replay_tile<0>(w, B, starts, steps, N);
                reverse_tile<0>(w, dh, dA, skip, dskip[v], B, C, steps, N);
            }
            store_tile(s.dx + at, w.dx, s.D, steps, width);
            store_tile(s.ddt + at, w.ddt, s.D, steps, width);
        }
        float *dB = s.dB + ((group * s.batches + batch) * s.T + begin) * N;
        float *dC = s.dC + ((group * s.batches + batch) * s.T + begin) * N;
        for (long i = 0; i < (long)steps * N; ++i) { dB[i] = sum_lanes(w.dB[i]); dC[i] = sum_lanes(w.dC[i]); }
    }
    for (int v = 0; v < vectors; ++v) {
        const long channel = first + (long)v * LANES, at = (batch * s.D + channel) * N;
        const int width = last - channel < LANES ? (int)(last - channel) : LANES;
        store_states(s.dh0 + at, dh_all + (long)v * N, N, width);
        store_states(s.dA + at, dA_all + (long)v * N, N, width);
        store_tile(s.dskip + batch * s.D + channel, dskip + v, 0, 1, width);
    }
}

static long backward_scratch(int N, long group_width) {
    const long vectors = (group_width + LANES - 1) / LANES;
    return (3L * N + 5L * TILE + 4L * TILE * N + vectors * (2L * N + 1)) * (long)sizeof(Vec);
}
static long forward_scratch(int N) { return (2L * N + 3L * TILE) * (long)sizeof(Vec); }

static void forward_entry(const ScanForward& s, long task, void* scratch) {
    const long blocks = (s.D + LANES - 1) / LANES, first = task % blocks * LANES;
    const int width = s.D - first < LANES ? (int)(s.D - first) : LANES;
    forward_block(s, task / blocks, first, width, (Vec*)scratch);
}
static void backward_entry(const ScanBackward& s, long task, void* scratch) {
    backward_group(s, task / s.groups, task % s.groups, (Vec*)scratch);
}

static const Kernel kernel = {LANES, forward_scratch, backward_scratch, forward_entry, backward_entry};
