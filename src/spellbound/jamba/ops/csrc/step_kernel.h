// One token through a whole model: embedding, decoder layers, head. See kernels.cpp for the arguments.
//
// Decoding reads every weight once for each token, so it can be as fast as memory and no faster: what is between the
// matrix-vector products is done in between, in float32, without a trip to Python.

// W . x for one row. Rows lie one behind the other, so a matrix is read straight through, which is the pattern memory answers
// fastest; four sums run beside one another, for one would wait for itself.
template <class E>
static inline float dot_row(const E* W, long columns, const float* x) {
    Vec sums[4] = {};
    long c = 0;
    for (; c + 4 * LANES <= columns; c += 4 * LANES)
        for (int i = 0; i < 4; ++i) sums[i] += load(W + c + i * LANES) * load(x + c + i * LANES);
    for (; c < columns; c += LANES) {
        const int width = columns - c < LANES ? (int)(columns - c) : LANES;
        sums[0] += load(W + c, width) * load(x + c, width);
    }
    return sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// y[first..last) = W x (+ bias), W (rows, columns).
template <class E>
static inline void multiply_rows(const E* W, const E* bias, long columns, const float* x, float* y, long first, long last) {
    for (long r = first; r < last; ++r) y[r] = dot_row(W + r * columns, columns, x) + (bias ? to_float(bias[r]) : 0.0f);
}

// The same over all rows, in parallel where there is enough to read. `then(first, last)` runs behind each block of rows.
template <class E, class Then>
static void multiply(const Team& team, const E* W, const E* bias, long rows, long columns, const float* x, float* y,
                     const Then& then) {
    const long block = block_of_rows(team, rows, columns * (long)sizeof(E));
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

static inline void add(float* x, const float* more, long first, long last) {
    for (long c = first; c < last; c += LANES) {
        const int width = last - c < LANES ? (int)(last - c) : LANES;
        store(x + c, load(x + c, width) + load(more + c, width), width);
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

// x += out_proj(scan(conv(in_proj(norm(x))))). `memory` holds floats(s).
template <class E>
static void mamba_step(const Team& team, const MambaStep<E>& s, float* x, float* memory) {
    const long low = s.R + 2L * s.N;
    float *normal = memory, *xz = normal + padded(s.H), *conv = xz + padded(2 * s.D), *mixed = conv + padded(s.D);
    float *projected = mixed + padded(s.D), *maps = projected + padded(low), *out = maps + padded(low);
    const float* gate = xz + s.D;
    norm_to_float(x, s.norm, normal, s.H, s.eps);
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
            const Vec step = softplus(load(mixed + d, width)), u = load(conv + d, width), input = step * u;
            Vec y{};
            for (int lane = 0; lane < width; ++lane) y[lane] = advance_channel(s, d + lane, step[lane], input[lane], B, C);
            y += load(s.skip + d, width) * u;
            store(mixed + d, y * silu(load(gate + d, width)), width);
        }
    });
    multiply(team, s.out_proj, s.out_bias, s.H, s.D, mixed, out,
             [&](long first, long last) { add(x, out, first, last); });
}

// Attention of all heads that share keys over one block of KEYS keys, which lie in one page: for each head the highest score,
// the sum of weights relative to it, and the weighted sum of values (P).
template <class E>
static void attend_block(const Pages<E>& s, const float* q, long heads, long P, long group, long begin, long end, float* scores,
                         float* parts) {
    const long offset = group * s.head_stride + begin % s.page * P, count = end - begin;
    const E* keys = s.keys[begin / s.page] + s.keys_at + offset;
    const E* values = s.values[begin / s.page] + s.values_at + offset;
    for (long i = 0; i < count; ++i)
        for (long r = 0; r < heads; ++r) scores[r * KEYS + i] = dot_row(keys + i * P, P, q + r * P);
    for (long r = 0; r < heads; ++r) {
        float *row = scores + r * KEYS, *part = parts + r * (P + 2), highest = row[0], total = 0.0f;
        for (long i = 1; i < count; ++i) highest = row[i] > highest ? row[i] : highest;
        for (long i = 0; i < count; i += LANES) {
            const int width = count - i < LANES ? (int)(count - i) : LANES;
            store(row + i, exp2_vec(load(row + i, width) - highest), width);
        }
        for (long i = 0; i < count; ++i) total += row[i];
        part[0] = highest;
        part[1] = total;
    }
    for (long c = 0; c < P; c += LANES) {
        const int width = P - c < LANES ? (int)(P - c) : LANES;
        for (long r = 0; r < heads; ++r) {
            Vec sum{};
            for (long i = 0; i < count; ++i) sum += load(values + i * P + c, width) * scores[r * KEYS + i];
            store(parts + r * (P + 2) + 2 + c, sum, width);
        }
    }
}

// Puts the parts of one head together, `next` floats from one block to the next: mixed (P).
static inline void merge_blocks(const float* first, long blocks, long next, long P, float* mixed) {
    float highest = first[0], total = 0.0f;
    for (long b = 1; b < blocks; ++b) highest = first[b * next] > highest ? first[b * next] : highest;
    for (long c = 0; c < P; ++c) mixed[c] = 0.0f;
    for (long b = 0; b < blocks; ++b) {
        const float* part = first + b * next;
        const float weight = exp2_vec(splat(part[0] - highest))[0];
        total += weight * part[1];
        for (long c = 0; c < P; ++c) mixed[c] += weight * part[2 + c];
    }
    for (long c = 0; c < P; ++c) mixed[c] /= total;
}

static inline float score_scale(long P) { return LOG2E / __builtin_sqrtf((float)P); }  // scores to the base 2

// x += o_proj(attention(norm(x))) over the past and this token, whose key and value are written behind the past.
template <class E>
static void attention_step(const Team& team, const AttentionStep<E>& s, float* x, float* memory) {
    const long P = s.P, heads = s.Q / s.G, length = s.past + 1, blocks = (length + KEYS - 1) / KEYS;
    float *normal = memory, *q = normal + padded(s.H), *mixed = q + padded(s.Q * P), *k = mixed + padded(s.Q * P);
    float *v = k + padded(s.G * P), *out = v + padded(s.G * P), *parts = out + padded(s.H);
    float* scores = parts + padded(s.G * blocks * heads * (P + 2));
    norm_to_float(x, s.norm, normal, s.H, s.eps);
    multiply(team, s.q_proj, (const E*)nullptr, s.Q * P, s.H, normal, q);
    multiply(team, s.k_proj, (const E*)nullptr, s.G * P, s.H, normal, k);
    multiply(team, s.v_proj, (const E*)nullptr, s.G * P, s.H, normal, v);
    const float scale = score_scale(P);
    for (long i = 0; i < s.Q * P; ++i) q[i] *= scale;
    E* own_keys = s.pages.keys[s.past / s.pages.page] + s.pages.keys_at + s.past % s.pages.page * P;
    E* own_values = s.pages.values[s.past / s.pages.page] + s.pages.values_at + s.past % s.pages.page * P;
    for (long g = 0; g < s.G; ++g)
        for (long c = 0; c < P; c += LANES) {
            const int width = P - c < LANES ? (int)(P - c) : LANES;
            store(own_keys + g * s.pages.head_stride + c, load(k + g * P + c, width), width);
            store(own_values + g * s.pages.head_stride + c, load(v + g * P + c, width), width);
        }
    parallel(team, s.G * blocks, 2 * s.G * length * P, [&](long task) {
        const long group = task / blocks, begin = task % blocks * KEYS, end = begin + KEYS < length ? begin + KEYS : length;
        attend_block(s.pages, q + group * heads * P, heads, P, group, begin, end, scores + task * heads * KEYS,
                     parts + task * heads * (P + 2));
    });
    for (long head = 0; head < s.Q; ++head)
        merge_blocks(parts + (head / heads * blocks * heads + head % heads) * (P + 2), blocks, heads * (P + 2), P, mixed + head * P);
    multiply(team, s.o_proj, (const E*)nullptr, s.H, s.Q * P, mixed, out, [&](long first, long last) { add(x, out, first, last); });
}

// One query position for each of some rows over what its own pages hold. `blocks` of KEYS keys have the rows together, and
// `memory` holds their queries, parts and scores.
template <class E>
static void attend_rows(const Team& team, const AttendRows<E>& s, long first, long last, long blocks, float* memory) {
    const long P = s.P, heads = s.Q / s.G, width = s.Q * P;
    float *q = memory, *parts = q + padded((last - first) * width), *scores = parts + padded(s.Q * blocks * (P + 2));
    const float scale = score_scale(P);
    for (long i = 0; i < (last - first) * width; ++i) q[i] = to_float(s.q[first * width + i]) * scale;
    parallel(team, s.G * blocks, 2 * s.G * blocks * KEYS * P, [&](long task) {
        const long group = task / blocks;
        long block = task % blocks, row = first;
        for (long own; block >= (own = (s.lengths[row] + KEYS - 1) / KEYS); ++row) block -= own;
        const long begin = block * KEYS, end = begin + KEYS < s.lengths[row] ? begin + KEYS : s.lengths[row];
        const Pages<E> pages = {s.tables[row], s.tables[row], s.keys_at, s.values_at, s.page, s.head_stride};
        attend_block(pages, q + (row - first) * width + group * heads * P, heads, P, group, begin, end,
                     scores + task * heads * KEYS, parts + task * heads * (P + 2));
    });
    long before = 0;
    for (long row = first; row < last; ++row) {
        const long own = (s.lengths[row] + KEYS - 1) / KEYS;
        for (long head = 0; head < s.Q; ++head) {
            float* mixed = q + (row - first) * width + head * P;
            const float* part = parts + ((head / heads * blocks + before) * heads + head % heads) * (P + 2);
            merge_blocks(part, own, heads * (P + 2), P, mixed);
            for (long c = 0; c < P; c += LANES) {
                const int lanes = P - c < LANES ? (int)(P - c) : LANES;
                store(s.y + row * width + head * P + c, load(mixed + c, lanes), lanes);
            }
        }
        before += own;
    }
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

// x += the gated MLP of norm(x), or the weighted sum of the best experts' MLPs. `memory` holds floats(s).
template <class E>
static void feed_forward_step(const Team& team, const FeedForwardStep<E>& s, float* x, float* memory) {
    float *normal = memory, *inner = normal + padded(s.H), *up_scratch = inner + s.top_k * padded(s.F);
    float* out = up_scratch + s.top_k * padded(s.F);
    float weights[MAX_EXPERTS] = {1.0f};
    long chosen[MAX_EXPERTS] = {0};
    norm_to_float(x, s.norm, normal, s.H, s.eps);
    if (s.router) route(s, normal, weights, chosen);
    const long block = block_of_rows(team, s.top_k * s.F, 2 * s.H * (long)sizeof(E)), blocks = (s.F + block - 1) / block;
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
    const long rows = block_of_rows(team, s.H, s.top_k * s.F * (long)sizeof(E));
    parallel(team, (s.H + rows - 1) / rows, s.top_k * s.F * s.H, [&](long task) {
        const long first = task * rows, last = first + rows < s.H ? first + rows : s.H;
        float* part = out + padded(s.H);
        for (int k = 0; k < s.top_k; ++k) {
            float* target = k ? part : out;
            multiply_rows(s.down + chosen[k] * s.H * s.F, (const E*)nullptr, s.F, inner + k * padded(s.F), target, first, last);
            if (k) for (long r = first; r < last; ++r) out[r] += part[r];
        }
        add(x, out, first, last);
    });
}

// Logits of the token after `token`. `memory` holds what token_step in kernels.cpp says.
template <class E>
static void token_step(const Team& team, const TokenStep<E>& s, float* memory) {
    float *x = memory, *normal = x + padded(s.H), *work = normal + padded(s.H);
    for (long c = 0; c < s.H; ++c) x[c] = to_float(s.embedding[s.token * s.H + c]);
    for (long i = 0; i < s.count; ++i) {
        const LayerStep<E>& layer = s.layers[i];
        if (layer.is_attention) attention_step(team, layer.attention, x, work);
        else mamba_step(team, layer.mamba, x, work);
        feed_forward_step(team, layer.feed_forward, x, work);
    }
    norm_to_float(x, s.norm, normal, s.H, s.eps);
    multiply(team, s.head, (const E*)nullptr, s.V, s.H, normal, s.logits);
}
