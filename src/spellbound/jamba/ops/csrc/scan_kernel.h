// The gated selective scan, forward and backward. See kernels.cpp for the arguments.
//
// Channels lie in vector lanes, time is a loop, the state stays in registers. B batch, T time, D channels, N states.

// A (steps, width) block of rows `stride` apart, as packed vectors, and back: natural row strides would make the inner loop
// wait for the cache.
template <class E>
static inline void load_tile(Vec* tile, const E* rows, long stride, int steps, int width) {
    if (width == LANES) for (int t = 0; t < steps; ++t) tile[t] = load(rows + t * stride);
    else for (int t = 0; t < steps; ++t) tile[t] = load(rows + t * stride, width);
}
template <class E>
static inline void store_tile(E* rows, const Vec* tile, long stride, int steps, int width) {
    if (width == LANES) for (int t = 0; t < steps; ++t) store(rows + t * stride, tile[t]);
    else for (int t = 0; t < steps; ++t) store(rows + t * stride, tile[t], width);
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

// One step of the recurrence for one vector of channels. Returns C . h.
static inline __attribute__((always_inline)) Vec advance(Vec* h, const Vec* A2, Vec step, Vec input, const float* b, const float* c, int N) {
    Vec even{}, odd{};
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
        h[n] = exp2_vec(step * A2[n]) * h[n] + input * b[n];
        if (n & 1) odd += h[n] * c[n];
        else even += h[n] * c[n];
    }
    return even + odd;
}

// One tile forward; y replaces dt. STATES is N when known at compile time (the state then lives in registers), else 0.
template <int STATES>
static inline void forward_tile(Vec* h_memory, const Vec* A2, const Vec* x, Vec* dt, const float* B, const float* C, Vec skip,
                                const unsigned char* starts, int steps, int runtime_N) {
    const int N = STATES ? STATES : runtime_N;
    Vec registers[STATES ? STATES : 1];
    Vec* h = STATES ? registers : h_memory;
    if (STATES) for (int n = 0; n < N; ++n) h[n] = h_memory[n];
    for (int t = 0; t < steps; ++t) {
        if (starts && starts[t]) for (int n = 0; n < N; ++n) h[n] = Vec{};
        const Vec step = softplus(dt[t]);
        dt[t] = skip * x[t] + advance(h, A2, step, step * x[t], B + (long)t * N, C + (long)t * N, N);
    }
    if (STATES) for (int n = 0; n < N; ++n) h_memory[n] = h[n];
}

template <class E>
static void scan_forward(const ScanForward<E>& s, long task, void* memory) {
    const long blocks = (s.D + LANES - 1) / LANES, first = task % blocks * LANES, batch = task / blocks;
    const int N = s.N, width = s.D - first < LANES ? (int)(s.D - first) : LANES;
    Vec *A2 = (Vec*)memory, *h = A2 + N, *x = h + N, *dt = x + TILE;
    load_states(A2, s.A + first * N, N, width);
    for (int n = 0; n < N; ++n) A2[n] *= LOG2E;
    if (s.h0) load_states(h, s.h0 + (batch * s.D + first) * N, N, width);
    else for (int n = 0; n < N; ++n) h[n] = Vec{};
    const Vec skip = s.skip ? load(s.skip + first, width) : Vec{};
    for (long begin = 0, tile = 0; begin < s.T; begin += TILE, ++tile) {
        const int steps = s.T - begin < TILE ? (int)(s.T - begin) : TILE;
        const long row = batch * s.T + begin, at = row * s.D + first;
        if (s.tile_states)
            __builtin_memcpy(s.tile_states + ((batch * s.tiles + tile) * s.padded_D + first) * N, h, N * sizeof(Vec));
        load_tile(x, s.x + at, s.D, steps, width);
        load_tile(dt, s.dt + at, s.D, steps, width);
        const unsigned char* starts = s.starts ? s.starts + row : nullptr;
        const float *B = s.B + row * N, *C = s.C + row * N;
        if (N == 16) forward_tile<16>(h, A2, x, dt, B, C, skip, starts, steps, N);
        else forward_tile<0>(h, A2, x, dt, B, C, skip, starts, steps, N);
        if (s.gate) {
            const E* gate = s.gate + batch * s.gate_batch + begin * s.gate_row + first;
            for (int t = 0; t < steps; ++t) dt[t] *= silu(load(gate + t * s.gate_row, width));
        }
        store_tile(s.y + at, dt, s.D, steps, width);
    }
    store_states(s.hT + (batch * s.D + first) * N, h, N, width);
}

static long scan_forward_scratch(int N) { return (2L * N + 2L * TILE) * (long)sizeof(Vec); }

// What one tile of the backward pass works with: decay and state of each step, and gradients summed over the group.
struct BackwardScratch {
    Vec *A2, *A, *h, *x, *raw, *step, *gate, *dy, *dx, *decay, *states, *dB, *dC;
};
static inline BackwardScratch carve(Vec* memory, int N) {
    BackwardScratch w;
    Vec** parts[] = {&w.A2, &w.A, &w.h, &w.x, &w.raw, &w.step, &w.gate, &w.dy, &w.dx, &w.decay, &w.states, &w.dB, &w.dC};
    for (int i = 0; i < 13; ++i) {
        *parts[i] = memory;
        memory += i < 3 ? N : i < 9 ? TILE : TILE * N;
    }
    return w;
}
static inline long carved(int N) { return 3L * N + 6L * TILE + 4L * TILE * N; }

// Runs the tile forward again, keeping decay_t = exp(dt_t A) (0 where a document starts) and h_t. With a gate, its gradient
// replaces it, and dy becomes the gradient before gating.
template <int STATES>
static inline void replay_tile(const BackwardScratch& w, const float* B, const float* C, Vec skip, const unsigned char* starts,
                               bool gated, int steps, int runtime_N) {
    const int N = STATES ? STATES : runtime_N;
    for (int t = 0; t < steps; ++t) {
        const Vec step = w.step[t] = softplus(w.raw[t]), input = step * w.x[t];
        const Vec* before = t ? w.states + (long)(t - 1) * N : w.h;
        Vec *decay = w.decay + (long)t * N, *after = w.states + (long)t * N;
        const float *b = B + (long)t * N, *c = C + (long)t * N;
        const Vec keep = splat(starts && starts[t] ? 0.0f : 1.0f);
        Vec y = skip * w.x[t];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            decay[n] = exp2_vec(step * w.A2[n]) * keep;
            after[n] = decay[n] * before[n] + input * b[n];
            y += after[n] * c[n];
        }
        if (gated) {
            Vec value;
            const Vec slope = silu_gradient(w.gate[t], value);
            w.gate[t] = w.dy[t] * y * slope;
            w.dy[t] *= value;
        }
    }
}

// Walks one tile backwards. dh is the gradient of the state after the step; dA and dskip add up over time. The gradient of
// the raw step size replaces it.
template <int STATES>
static inline void reverse_tile(const BackwardScratch& w, Vec* dh, Vec* dA, Vec skip, Vec& dskip, const float* B,
                                const float* C, int steps, int runtime_N) {
    const int N = STATES ? STATES : runtime_N;
    for (int t = steps - 1; t >= 0; --t) {
        const Vec step = w.step[t], x = w.x[t], dy = w.dy[t], input = step * x;
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
        w.dx[t] = dinput * step + dy * skip;
        w.raw[t] = (dstep + dinput * x) * sigmoid_of(w.raw[t], exp_minus_magnitude(w.raw[t]));
        dskip += dy * x;
    }
}

// One group of channels: every tile from the last to the first, every vector of the group inside a tile, so that
// dB and dC of a tile are summed over the group while they are in cache.
template <class E>
static void scan_backward(const ScanBackward<E>& s, long task, void* memory) {
    const ScanForward<E>& f = s.forward;
    const int N = f.N;
    const long batch = task / s.groups, group = task % s.groups;
    const long first = group * s.group_width, last = first + s.group_width < f.D ? first + s.group_width : f.D;
    const int vectors = (int)((last - first + LANES - 1) / LANES);
    const BackwardScratch w = carve((Vec*)memory, N);
    Vec *dh_all = (Vec*)memory + carved(N), *dA_all = dh_all + (long)vectors * N, *dskip = dA_all + (long)vectors * N;
    for (int v = 0; v < vectors; ++v) {
        const long channel = first + (long)v * LANES;
        const int width = last - channel < LANES ? (int)(last - channel) : LANES;
        load_states(dh_all + (long)v * N, s.dhT + (batch * f.D + channel) * N, N, width);
        for (int n = 0; n < N; ++n) dA_all[(long)v * N + n] = Vec{};
        dskip[v] = Vec{};
    }
    for (long tile = f.tiles - 1; tile >= 0; --tile) {
        const long begin = tile * TILE, row = batch * f.T + begin;
        const int steps = f.T - begin < TILE ? (int)(f.T - begin) : TILE;
        const unsigned char* starts = f.starts ? f.starts + row : nullptr;
        const float *B = f.B + row * N, *C = f.C + row * N;
        for (long i = 0; i < (long)steps * N; ++i) w.dB[i] = w.dC[i] = Vec{};
        for (int v = 0; v < vectors; ++v) {
            const long channel = first + (long)v * LANES, at = row * f.D + channel;
            const int width = last - channel < LANES ? (int)(last - channel) : LANES;
            load_states(w.A, f.A + channel * N, N, width);
            for (int n = 0; n < N; ++n) w.A2[n] = w.A[n] * LOG2E;
            __builtin_memcpy(w.h, f.tile_states + ((batch * f.tiles + tile) * f.padded_D + channel) * N, N * sizeof(Vec));
            load_tile(w.x, f.x + at, f.D, steps, width);
            load_tile(w.raw, f.dt + at, f.D, steps, width);
            load_tile(w.dy, s.dy + at, f.D, steps, width);
            if (f.gate)
                load_tile(w.gate, f.gate + batch * f.gate_batch + begin * f.gate_row + channel, f.gate_row, steps, width);
            const Vec skip = f.skip ? load(f.skip + channel, width) : Vec{};
            Vec *dh = dh_all + (long)v * N, *dA = dA_all + (long)v * N;
            if (N == 16) {
                replay_tile<16>(w, B, C, skip, starts, f.gate, steps, N);
                reverse_tile<16>(w, dh, dA, skip, dskip[v], B, C, steps, N);
            } else {
                replay_tile<0>(w, B, C, skip, starts, f.gate, steps, N);
                reverse_tile<0>(w, dh, dA, skip, dskip[v], B, C, steps, N);
            }
            store_tile(s.dx + at, w.dx, f.D, steps, width);
            store_tile(s.ddt + at, w.raw, f.D, steps, width);
            if (f.gate) store_tile(s.dgate + at, w.gate, f.D, steps, width);
        }
        float *dB = s.dB + ((group * s.batches + batch) * f.T + begin) * N;
        float *dC = s.dC + ((group * s.batches + batch) * f.T + begin) * N;
        for (long i = 0; i < (long)steps * N; ++i) { dB[i] = sum_lanes(w.dB[i]); dC[i] = sum_lanes(w.dC[i]); }
    }
    for (int v = 0; v < vectors; ++v) {
        const long channel = first + (long)v * LANES, at = (batch * f.D + channel) * N;
        const int width = last - channel < LANES ? (int)(last - channel) : LANES;
        store_states(s.dh0 + at, dh_all + (long)v * N, N, width);
        store_states(s.dA + at, dA_all + (long)v * N, N, width);
        store(s.dskip + batch * f.D + channel, dskip[v], width);
    }
}

static long scan_backward_scratch(int N, long group_width) {
    const long vectors = (group_width + LANES - 1) / LANES;
    return (carved(N) + vectors * (2L * N + 1)) * (long)sizeof(Vec);
}
