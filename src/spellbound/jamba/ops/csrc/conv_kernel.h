// Depthwise causal convolution over time, then SiLU, forward and backward. See kernels.cpp for the arguments.
//
// Rows of a tile lie in the cache, so each output row is a sum of at most K input rows; what lies before the first row is the
// window (or zeros), and a document's first rows reach no further back than their document.

constexpr int CONV_CHANNELS = 128;  // a block of channels: its weights and K rows stay in the first-level cache
static_assert(CONV_CHANNELS % LANES == 0, "a block is whole vectors");

// How many steps back from t the taps may reach: K - 1, or to the start of t's document.
static inline int reach(const ConvShape& s, long batch, long t) {
    if (!s.starts) return s.K - 1;
    const unsigned char* starts = s.starts + batch * s.T;
    int back = 0;
    while (back < s.K - 1 && !(t - back >= 0 && starts[t - back])) ++back;
    return back;
}

// The input row at time t of a block that begins at channel `first`; null for zeros before the first token.
template <class E>
static inline const E* input_row(const ConvForward<E>& s, long batch, long t, long first) {
    if (t >= 0) return s.x + batch * s.shape.x_batch + t * s.shape.x_row + first;
    return s.window ? s.window + (batch * (s.shape.K - 1) + s.shape.K - 1 + t) * s.shape.D + first : nullptr;
}

// Sum of the taps for one vector of channels, before SiLU.
template <class E>
static inline Vec convolve(const ConvForward<E>& s, const E* const* rows, int taps, long first, long c, int width) {
    Vec sum = s.bias ? load(s.bias + first + c, width) : Vec{};
    for (int back = 0; back < taps; ++back)
        if (rows[back]) sum += load(s.weight + (s.shape.K - 1 - back) * s.shape.D + first + c, width) * load(rows[back] + c, width);
    return sum;
}

template <class E>
static void conv_forward(const ConvForward<E>& s, long task, void*) {
    const ConvShape& shape = s.shape;
    const long blocks = (shape.D + CONV_CHANNELS - 1) / CONV_CHANNELS, tiles = (shape.T + TILE - 1) / TILE;
    const long first = task % blocks * CONV_CHANNELS, begin = task / blocks % tiles * TILE, batch = task / blocks / tiles;
    const long end = begin + TILE < shape.T ? begin + TILE : shape.T;
    const long channels = shape.D - first < CONV_CHANNELS ? shape.D - first : CONV_CHANNELS;
    for (long t = begin; t < end; ++t) {
        const int taps = reach(shape, batch, t) + 1;
        const E* rows[MAX_TAPS];
        for (int back = 0; back < taps; ++back) rows[back] = input_row(s, batch, t - back, first);
        E* y = s.y + (batch * shape.T + t) * shape.D + first;
        for (long c = 0; c < channels; c += LANES) {
            const int width = channels - c < LANES ? (int)(channels - c) : LANES;
            store(y + c, silu(convolve(s, rows, taps, first, c, width)), width);
        }
    }
}

// One block of channels of one row of the batch, from the last tile to the first. The gradient before SiLU of the rows that
// follow a tile, which its inputs reached, is carried in `dz`; gradients of weight and bias add up in time's reverse order.
template <class E>
static void conv_backward(const ConvBackward<E>& s, long task, void* memory) {
    const ConvShape& shape = s.forward.shape;
    const int K = shape.K;
    const long blocks = (shape.D + CONV_CHANNELS - 1) / CONV_CHANNELS;
    const long first = task % blocks * CONV_CHANNELS, batch = task / blocks;
    const long channels = shape.D - first < CONV_CHANNELS ? shape.D - first : CONV_CHANNELS;
    const int vectors = (int)((channels + LANES - 1) / LANES), stride = CONV_CHANNELS / LANES;
    Vec* dz = (Vec*)memory;                      // (TILE + K - 1, stride): this tile's rows, then the next one's first
    Vec* dweight = dz + (TILE + K - 1) * stride;  // (K, stride)
    Vec* dbias = dweight + K * stride;
    for (long i = 0; i < (TILE + K - 1) * stride; ++i) dz[i] = Vec{};
    for (long i = 0; i < (K + 1) * stride; ++i) dweight[i] = Vec{};
    const long tiles = (shape.T + TILE - 1) / TILE;
    for (long tile = tiles - 1; tile >= 0; --tile) {
        const long begin = tile * TILE, end = begin + TILE < shape.T ? begin + TILE : shape.T;
        // What followed this tile: the next tile's first rows (zeros behind the last row of all).
        const long used = tile == tiles - 1 ? end - begin : TILE;
        for (long row = K - 2; row >= 0; --row)
            for (int v = 0; v < vectors; ++v) dz[(used + row) * stride + v] = tile == tiles - 1 ? Vec{} : dz[row * stride + v];
        for (long t = begin; t < end; ++t) {
            const int taps = reach(shape, batch, t) + 1;
            const E* rows[MAX_TAPS];
            for (int back = 0; back < taps; ++back) rows[back] = input_row(s.forward, batch, t - back, first);
            const E* dy = s.dy + (batch * shape.T + t) * shape.D + first;
            for (int v = 0; v < vectors; ++v) {
                const long c = (long)v * LANES;
                const int width = channels - c < LANES ? (int)(channels - c) : LANES;
                Vec value;
                const Vec d = load(dy + c, width) * silu_gradient(convolve(s.forward, rows, taps, first, c, width), value);
                dz[(t - begin) * stride + v] = d;
                dbias[v] += d;
                for (int back = 0; back < taps; ++back)
                    if (rows[back]) dweight[(K - 1 - back) * stride + v] += d * load(rows[back] + c, width);
            }
        }
        for (long t = begin - (tile == 0 ? K - 1 : 0); t < end; ++t) {
            if (t < 0 && !s.dwindow) continue;
            E* dx = t >= 0 ? s.dx + (batch * shape.T + t) * shape.D + first
                           : s.dwindow + (batch * (K - 1) + K - 1 + t) * shape.D + first;
            for (int v = 0; v < vectors; ++v) {
                const long c = (long)v * LANES;
                const int width = channels - c < LANES ? (int)(channels - c) : LANES;
                Vec sum{};
                for (int ahead = t < 0 ? (int)-t : 0; ahead < K && t + ahead < shape.T; ++ahead)
                    if (ahead <= reach(shape, batch, t + ahead))
                        sum += load(s.forward.weight + (K - 1 - ahead) * shape.D + first + c, width) *
                               dz[(t + ahead - begin) * stride + v];
                store(dx + c, sum, width);
            }
        }
    }
    for (int v = 0; v < vectors; ++v) {
        const long c = (long)v * LANES;
        const int width = channels - c < LANES ? (int)(channels - c) : LANES;
        for (int k = 0; k < K; ++k) store(s.dweight + (batch * K + k) * shape.D + first + c, dweight[k * stride + v], width);
        store(s.dbias + batch * shape.D + first + c, dbias[v], width);
    }
}

static long conv_backward_scratch(int K) { return (TILE + 2L * K) * (CONV_CHANNELS / LANES) * (long)sizeof(Vec); }
