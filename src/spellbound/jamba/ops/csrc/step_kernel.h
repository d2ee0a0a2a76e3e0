// One token of each of some rows through a whole model: embedding, decoder layers, head. See kernels.cpp for the arguments.
//
// Decoding reads every weight once for each token, so it can be as fast as memory and no faster: what is between the
// matrix-vector products is done in between, in float32, without a trip to Python. Rows share the reading. What becomes of a
// row does not depend on the others: each of its sums is made in the same order, however many rows there are.

constexpr int AT_ONCE = LANES == 16 ? 6 : 3;  // rows times one row of a matrix: their sums, four each, stay in registers

// W . x for COUNT rows. Rows of W lie one behind the other, so a matrix is read straight through, which is the pattern memory
// answers fastest; four sums run beside one another, for one would wait for itself.
template <int COUNT, class E>
static inline void dot_rows(const E* W, long columns, const float* x, long next, float* y) {
    Vec sums[COUNT][4] = {};
    long c = 0;
    for (; c + 4 * LANES <= columns; c += 4 * LANES)
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            const Vec weight = load(W + c + i * LANES);
#pragma GCC unroll 8
            for (int r = 0; r < COUNT; ++r) sums[r][i] += weight * load(x + r * next + c + i * LANES);
        }
    for (; c < columns; c += LANES) {
        const int width = columns - c < LANES ? (int)(columns - c) : LANES;
        const Vec weight = load(W + c, width);
#pragma GCC unroll 8
        for (int r = 0; r < COUNT; ++r) sums[r][0] += weight * load(x + r * next + c, width);
    }
    Vec both[COUNT];
#pragma GCC unroll 8
    for (int r = 0; r < COUNT; ++r) both[r] = (sums[r][0] + sums[r][1]) + (sums[r][2] + sums[r][3]);
    sum_lanes<COUNT>(both, y);
}
template <class E>
static inline float dot_row(const E* W, long columns, const float* x) {
    float y;
    dot_rows<1>(W, columns, x, 0, &y);
    return y;
}

// y[first..last) = W x (+ bias) for COUNT rows, W (outputs, inputs).
template <int COUNT, class E>
static inline void multiply_some(const E* W, const E* bias, long inputs, Rows x, Rows y, long first, long last) {
    for (long o = first; o < last; ++o) {
        float sums[COUNT];
        dot_rows<COUNT>(W + o * inputs, inputs, x.first, x.next, sums);
        for (int r = 0; r < COUNT; ++r) y[r][o] = sums[r] + (bias ? to_float(bias[o]) : 0.0f);
    }
}
template <int COUNT, class E>
static inline void multiply_count(int count, const E* W, const E* bias, long inputs, Rows x, Rows y, long first, long last) {
    if constexpr (COUNT > 1)
        if (count < COUNT) return multiply_count<COUNT - 1>(count, W, bias, inputs, x, y, first, last);
    multiply_some<COUNT>(W, bias, inputs, x, y, first, last);
}

// The same for any number of rows. Only the first few of them read this part of W from memory.
template <class E>
static inline void multiply_rows(const E* W, const E* bias, long inputs, long rows, Rows x, Rows y, long first, long last) {
    for (long row = 0, count; row < rows; row += count) {
        count = ceil_div(rows - row, ceil_div(rows - row, AT_ONCE));  // as even as may be
        multiply_count<AT_ONCE>((int)count, W, bias, inputs, {x[row], x.next}, {y[row], y.next}, first, last);
    }
}

// z = scale A x, the first half of a low-rank change; and the second: y[first..last) += B z.
static inline void narrow(const LowRank& low, long inputs, long rows, Rows x, Rows z) {
    if (!low.rank) return;
    multiply_rows(low.A, (const float*)nullptr, inputs, rows, x, z, 0, low.rank);
    for (long row = 0; row < rows; ++row)
        for (long r = 0; r < low.rank; ++r) z[row][r] *= low.scale;
}
static inline void widen(const LowRank& low, long rows, Rows z, Rows y, long first, long last) {
    if (!low.rank) return;
    for (long o = first; o < last; ++o)
        for (long row = 0; row < rows; ++row) y[row][o] += dot_row(low.B + o * low.rank, low.rank, z[row]);
}

// The same over all outputs, in parallel where there is enough to read. `then(first, last)` runs behind each block of them.
template <class E, class Then>
static void multiply(const Team& team, const E* W, const E* bias, long outputs, long inputs, long rows, Rows x, Rows y,
                     const Then& then) {
    const long block = block_of_rows(team, outputs, inputs * (long)sizeof(E));
    parallel(team, ceil_div(outputs, block), rows * outputs * inputs, [&](long task) {
        const long first = task * block, last = first + block < outputs ? first + block : outputs;
        multiply_rows(W, bias, inputs, rows, x, y, first, last);
        then(first, last);
    });
}
template <class E>
static void multiply(const Team& team, const E* W, const E* bias, long outputs, long inputs, long rows, Rows x, Rows y) {
    multiply(team, W, bias, outputs, inputs, rows, x, y, [](long, long) {});
}

// The same with a low-rank change, for which there is room in z.
template <class E, class Then>
static void multiply(const Team& team, const E* W, const E* bias, const LowRank& low, Rows z, long outputs, long inputs, long rows,
                     Rows x, Rows y, const Then& then) {
    narrow(low, inputs, rows, x, z);
    multiply(team, W, bias, outputs, inputs, rows, x, y, [&](long first, long last) {
        widen(low, rows, z, y, first, last);
        then(first, last);
    });
}
template <class E>
static void multiply(const Team& team, const E* W, const E* bias, const LowRank& low, Rows z, long outputs, long inputs, long rows,
                     Rows x, Rows y) {
    multiply(team, W, bias, low, z, outputs, inputs, rows, x, y, [](long, long) {});
}
template <class E>
static void multiply_row(const Team& team, const E* W, const E* bias, long outputs, long inputs, const float* x, float* y) {
    multiply(team, W, bias, outputs, inputs, 1, {const_cast<float*>(x), inputs}, {y, outputs});
}

template <class E, class X>
static inline void norm_to_float(const X* x, const E* weight, float* y, long size, float eps) {
    const float scale = inverse_rms(x, size, eps);
    for (long c = 0; c < size; c += LANES) {
        const int width = size - c < LANES ? (int)(size - c) : LANES;
        store(y + c, load(weight + c, width) * (load(x + c, width) * scale), width);
    }
}

static inline void add(Rows x, Rows more, long rows, long first, long last) {
    for (long row = 0; row < rows; ++row)
        for (long c = first; c < last; c += LANES) {
            const int width = last - c < LANES ? (int)(last - c) : LANES;
            store(x[row] + c, load(x[row] + c, width) + load(more[row] + c, width), width);
        }
}

// Moves a row's window on by one input and returns SiLU of the convolution, for channels [0, D).
template <class E>
static void conv_step(const MambaStep<E>& s, long row, const float* x, float* y) {
    const int past = s.K - 1;
    const E* window = s.windows[row];
    E* next_window = s.next_windows + row * past * s.D;
    for (long d = 0; d < s.D; ++d) {
        float sum = (s.conv_bias ? to_float(s.conv_bias[d]) : 0.0f) + to_float(s.conv_weight[d * s.K + past]) * x[d];
        for (int k = 0; k < past; ++k) sum += to_float(s.conv_weight[d * s.K + k]) * to_float(window[k * s.D + d]);
        y[d] = sum;
    }
    for (long d = 0; d < s.D; d += LANES) {
        const int width = s.D - d < LANES ? (int)(s.D - d) : LANES;
        store(y + d, silu(load(y + d, width)), width);
        if (past) store(next_window + (past - 1) * s.D + d, load(x + d, width), width);
    }
    if (past > 1) __builtin_memcpy(next_window, window + s.D, (past - 1) * s.D * sizeof(E));
}

// One step of the recurrence of `count` rows for one channel, whose states lie in vector lanes here: y[row][lane] = C . h.
constexpr int SCANNED = 8;  // rows that share what depends on the channel alone
template <class E>
static inline void advance_channel(const MambaStep<E>& s, long d, int lane, long row, int count, const Vec* steps,
                                   const Vec* inputs, Rows B, Rows C, Vec* y) {
    Vec totals[SCANNED] = {};
    for (int n = 0; n < s.N; n += LANES) {
        const int width = s.N - n < LANES ? s.N - n : LANES;
        const Vec A2 = exp2_vec(load(s.A_log + d * s.N + n, width) * LOG2E) * -LOG2E;
        for (int r = 0; r < count; ++r) {
            const Vec before = load(s.h[row + r] + d * s.N + n, width);
            const Vec h = exp2_vec(A2 * steps[r][lane]) * before + load(B[row + r] + n, width) * inputs[r][lane];
            store(s.next_h + ((row + r) * s.D + d) * s.N + n, h, width);
            totals[r] += h * load(C[row + r] + n, width);
        }
    }
    for (int r = 0; r < count; ++r) y[r][lane] = sum_lanes(totals[r]);
}

// The gated scan of channels [first, last) of `count` rows. `mixed` holds step sizes before softplus and takes what comes out.
template <class E>
static void scan_step(const MambaStep<E>& s, long first, long last, long row, int count, Rows conv, Rows gate, Rows B, Rows C,
                      Rows mixed) {
    for (long d = first; d < last; d += LANES) {
        const int width = last - d < LANES ? (int)(last - d) : LANES;
        Vec steps[SCANNED], inputs[SCANNED], y[SCANNED] = {};
        for (int r = 0; r < count; ++r) {
            steps[r] = softplus(load(mixed[row + r] + d, width));
            inputs[r] = steps[r] * load(conv[row + r] + d, width);
        }
        for (int lane = 0; lane < width; ++lane) advance_channel(s, d + lane, lane, row, count, steps, inputs, B, C, y);
        for (int r = 0; r < count; ++r) {
            y[r] += load(s.skip + d, width) * load(conv[row + r] + d, width);
            store(mixed[row + r] + d, y[r] * silu(load(gate[row + r] + d, width)), width);
        }
    }
}

// x += out_proj(scan(conv(in_proj(norm(x))))).
template <class E>
static void mamba_step(const Team& team, const MambaStep<E>& s, long rows, Rows x, Space space) {
    const MambaSpace<E> m(space, s, rows);
    const long maps = s.R + 2L * s.N;
    const Rows gate = {m.xz.first + s.D, m.xz.next};
    const Rows dt = m.maps, B = {dt.first + s.R, dt.next}, C = {B.first + s.N, dt.next};
    for (long row = 0; row < rows; ++row) norm_to_float(x[row], s.norm, m.normal[row], s.H, s.eps);
    multiply(team, s.in_proj, s.in_bias, s.in_low, m.low, 2 * s.D, s.H, rows, m.normal, m.xz);
    parallel(team, rows, rows * s.D * s.K, [&](long row) { conv_step(s, row, m.xz[row], m.conv[row]); });
    multiply(team, s.x_proj, (const E*)nullptr, s.x_low, m.low, maps, s.D, rows, m.conv, m.projected);
    for (long row = 0; row < rows; ++row) {
        norm_to_float(m.projected[row], s.dt_norm, dt[row], s.R, s.eps);
        norm_to_float(m.projected[row] + s.R, s.b_norm, B[row], s.N, s.eps);
        norm_to_float(m.projected[row] + s.R + s.N, s.c_norm, C[row], s.N, s.eps);
    }
    multiply(team, s.dt_proj, s.dt_bias, s.dt_low, m.low, s.D, s.R, rows, dt, m.mixed, [&](long first, long last) {
        for (long row = 0; row < rows; row += SCANNED)
            scan_step(s, first, last, row, rows - row < SCANNED ? (int)(rows - row) : SCANNED, m.conv, gate, B, C, m.mixed);
    });
    multiply(team, s.out_proj, s.out_bias, s.out_low, m.low, s.H, s.D, rows, m.mixed, m.out,
             [&](long first, long last) { add(x, m.out, rows, first, last); });
}

// Attention of all heads of a row that share keys over one block of KEYS keys, which lie in one page: for each head the highest
// score, the sum of weights relative to it, and the weighted sum of values (P).
template <class E>
static void attend_block(const Pages<E>& s, long row, const float* q, long heads, long P, long group, long begin, long end,
                         float* scores, float* parts) {
    const long offset = group * s.head_stride + begin % s.page * P, count = end - begin;
    const E *keys = s.key(row, begin) + offset, *values = s.value(row, begin) + offset;
    for (long i = 0; i < count; ++i)
        for (long r = 0; r < heads; ++r) scores[r * KEYS + i] = dot_row(keys + i * P, P, q + r * P);
    for (long r = 0; r < heads; ++r) {
        float *own = scores + r * KEYS, *part = parts + r * (P + 2), highest = own[0], total = 0.0f;
        for (long i = 1; i < count; ++i) highest = own[i] > highest ? own[i] : highest;
        for (long i = 0; i < count; i += LANES) {
            const int width = count - i < LANES ? (int)(count - i) : LANES;
            store(own + i, exp2_vec(load(own + i, width) - highest), width);
        }
        for (long i = 0; i < count; ++i) total += own[i];
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

// Attention of rows [first, last), whose pages hold so many blocks of keys together.
template <class E>
static void attend_some(const Team& team, const Pages<E>& s, long Q, long G, long P, long first, long last, long blocks, Rows q,
                        const BlockSpace& space) {
    const long heads = Q / G, part = heads * (P + 2);
    parallel(team, G * blocks, 2 * G * blocks * KEYS * P, [&](long task) {
        const long group = task / blocks;
        long block = task % blocks, row = first;
        for (long own; block >= (own = ceil_div(s.lengths[row], KEYS)); ++row) block -= own;
        const long begin = block * KEYS, end = begin + KEYS < s.lengths[row] ? begin + KEYS : s.lengths[row];
        attend_block(s, row, q[row] + group * heads * P, heads, P, group, begin, end, space.scores + task * heads * KEYS,
                     space.parts + task * part);
    });
    long before = 0;
    for (long row = first; row < last; ++row) {
        const long own = ceil_div(s.lengths[row], KEYS);
        for (long head = 0; head < Q; ++head) {
            const float* parts = space.parts + (head / heads * blocks + before) * part + head % heads * (P + 2);
            merge_blocks(parts, own, part, P, q[row] + head * P);
        }
        before += own;
    }
}

// Attention from one position of each row to all that its pages hold: q (rows, Q P) in, what is read out in its place.
template <class E>
static void attend(const Team& team, const Pages<E>& s, long Q, long G, long P, long rows, Rows q, const BlockSpace& space) {
    const float scale = LOG2E / __builtin_sqrtf((float)P);  // scores to the base 2
    for (long row = 0; row < rows; ++row)
        for (long c = 0; c < Q * P; ++c) q[row][c] *= scale;
    for (long first = 0, last = 0; first < rows; first = last) {
        long blocks = 0, own;
        for (; last < rows && blocks + (own = ceil_div(s.lengths[last], KEYS)) <= space.most; ++last) blocks += own;
        attend_some(team, s, Q, G, P, first, last, blocks, q, space);
    }
}

// x += o_proj(attention(norm(x))) over the past and this token, whose key and value are written behind the past.
template <class E>
static void attention_step(const Team& team, const AttentionStep<E>& s, long rows, Rows x, Space space) {
    const AttentionSpace<E> m(space, s, rows);
    const long P = s.P;
    for (long row = 0; row < rows; ++row) norm_to_float(x[row], s.norm, m.normal[row], s.H, s.eps);
    multiply(team, s.q_proj, (const E*)nullptr, s.q_low, m.low, s.Q * P, s.H, rows, m.normal, m.q);
    multiply(team, s.k_proj, (const E*)nullptr, s.k_low, m.low, s.G * P, s.H, rows, m.normal, m.k);
    multiply(team, s.v_proj, (const E*)nullptr, s.v_low, m.low, s.G * P, s.H, rows, m.normal, m.v);
    for (long row = 0; row < rows; ++row) {
        const long past = s.pages.lengths[row] - 1, inside = past % s.pages.page * P;
        E *keys = s.pages.key(row, past) + inside, *values = s.pages.value(row, past) + inside;
        for (long g = 0; g < s.G; ++g)
            for (long c = 0; c < P; c += LANES) {
                const int width = P - c < LANES ? (int)(P - c) : LANES;
                store(keys + g * s.pages.head_stride + c, load(m.k[row] + g * P + c, width), width);
                store(values + g * s.pages.head_stride + c, load(m.v[row] + g * P + c, width), width);
            }
    }
    attend(team, s.pages, s.Q, s.G, P, rows, m.q, m.blocks);
    multiply(team, s.o_proj, (const E*)nullptr, s.o_low, m.low, s.H, s.Q * P, rows, m.q, m.out,
             [&](long first, long last) { add(x, m.out, rows, first, last); });
}

// Attention alone, for modules.
template <class E>
static void attend_rows(const Team& team, const AttendRows<E>& s, float* memory) {
    Space space{memory};
    const AttendRowsSpace<E> m(space, s);
    const long size = s.Q * s.P;
    for (long row = 0; row < s.rows; ++row)
        for (long c = 0; c < size; ++c) m.q[row][c] = to_float(s.q[row * size + c]);
    attend(team, s.pages, s.Q, s.G, s.P, s.rows, m.q, m.blocks);
    for (long row = 0; row < s.rows; ++row)
        for (long c = 0; c < size; c += LANES) {
            const int width = size - c < LANES ? (int)(size - c) : LANES;
            store(s.y + row * size + c, load(m.q[row] + c, width), width);
        }
}

// Shares and numbers of a row's best experts, best first: softmax over all, not renormalised.
template <class E>
static void route(const FeedForwardStep<E>& s, float* logits, float* shares, int* chosen) {
    float highest = -__builtin_inff(), total = 0.0f;
    for (long e = 0; e < s.experts; ++e) highest = logits[e] > highest ? logits[e] : highest;
    for (long e = 0; e < s.experts; ++e) total += logits[e] = exp2_vec(splat((logits[e] - highest) * LOG2E))[0];
    for (int k = 0; k < s.top_k; ++k) {
        int best = 0;
        for (int e = 1; e < s.experts; ++e) best = logits[e] > logits[best] ? e : best;
        chosen[k] = best;
        shares[k] = logits[best] / total;
        logits[best] = -1.0f;
    }
}

// Puts pairs of one expert side by side, each with its row's input; returns how many groups there are.
template <class E>
static long group_pairs(const FeedForwardStep<E>& s, long rows, const FeedForwardSpace<E>& m) {
    long groups = 0;
    int pair = 0;
    for (int e = 0; e == 0 || e < s.experts; ++e) {
        m.experts[groups] = e;
        m.begins[groups] = pair;
        for (long i = 0; i < rows * s.top_k; ++i) {
            if (m.chosen[i] != e) continue;
            m.places[i] = pair;
            m.weights[pair] = m.shares[i];
            __builtin_memcpy(m.input[pair++], m.normal[i / s.top_k], s.H * sizeof(float));
        }
        groups += pair > m.begins[groups];
    }
    m.begins[groups] = pair;
    return groups;
}

// x += the gated MLP of norm(x), or the weighted sum of the best experts' MLPs. An expert's weights are read once for all rows
// that chose it.
template <class E>
static void feed_forward_step(const Team& team, const FeedForwardStep<E>& s, long rows, Rows x, Space space) {
    const FeedForwardSpace<E> m(space, s, rows);
    for (long row = 0; row < rows; ++row) {
        norm_to_float(x[row], s.norm, m.normal[row], s.H, s.eps);
        m.shares[row] = 1.0f;
        m.chosen[row] = 0;
    }
    if (s.router) {
        multiply(team, s.router, (const E*)nullptr, s.router_low, m.low, s.experts, s.H, rows, m.normal, m.logits);
        for (long row = 0; row < rows; ++row) route(s, m.logits[row], m.shares + row * s.top_k, m.chosen + row * s.top_k);
    }
    const long groups = group_pairs(s, rows, m), pairs = rows * s.top_k;
    const auto of_group = [&](const Rows& each, long group) { return Rows{each[m.begins[group]], each.next}; };
    const bool both = s.up_low.A != s.gate_low.A;  // else what one makes of the input is the other's, too
    const Rows up_low = both ? m.up_low : m.gate_low;
    const long outputs = 2 * s.F;  // of an expert; without experts there is but one
    for (long group = 0; group < groups; ++group) {
        const long expert = m.experts[group], count = m.begins[group + 1] - m.begins[group];
        narrow(s.gate_low.of_expert(expert, s.H, outputs), s.H, count, of_group(m.input, group), of_group(m.gate_low, group));
        if (both) narrow(s.up_low.of_expert(expert, s.H, outputs), s.H, count, of_group(m.input, group), of_group(m.up_low, group));
    }
    const long block = block_of_rows(team, groups * s.F, 2 * s.H * (long)sizeof(E)), blocks = ceil_div(s.F, block);
    parallel(team, groups * blocks, 2 * pairs * s.F * s.H, [&](long task) {
        const long group = task / blocks, first = task % blocks * block, last = first + block < s.F ? first + block : s.F;
        const long expert = m.experts[group] * s.gate_expert, begin = m.begins[group], end = m.begins[group + 1];
        const Rows input = of_group(m.input, group);
        multiply_rows(s.gate + expert, (const E*)nullptr, s.H, end - begin, input, of_group(m.inner, group), first, last);
        multiply_rows(s.up + expert, (const E*)nullptr, s.H, end - begin, input, of_group(m.up, group), first, last);
        widen(s.gate_low.of_expert(m.experts[group], s.H, outputs), end - begin, of_group(m.gate_low, group),
              of_group(m.inner, group), first, last);
        widen(s.up_low.of_expert(m.experts[group], s.H, outputs), end - begin, of_group(up_low, group), of_group(m.up, group), first,
              last);
        for (long pair = begin; pair < end; ++pair)
            for (long c = first; c < last; c += LANES) {
                const int width = last - c < LANES ? (int)(last - c) : LANES;
                const Vec gated = silu(load(m.inner[pair] + c, width)) * load(m.up[pair] + c, width);
                store(m.inner[pair] + c, gated * m.weights[pair], width);
            }
    });
    for (long group = 0; group < groups; ++group)
        narrow(s.down_low.of_expert(m.experts[group], s.F, s.H), s.F, m.begins[group + 1] - m.begins[group],
               of_group(m.inner, group), of_group(m.down_low, group));
    const long part = block_of_rows(team, s.H, groups * s.F * (long)sizeof(E));
    parallel(team, ceil_div(s.H, part), pairs * s.F * s.H, [&](long task) {
        const long first = task * part, last = first + part < s.H ? first + part : s.H;
        for (long group = 0; group < groups; ++group) {
            const long expert = m.experts[group], count = m.begins[group + 1] - m.begins[group];
            const Rows output = of_group(m.output, group);
            multiply_rows(s.down + expert * s.H * s.F, (const E*)nullptr, s.F, count, of_group(m.inner, group), output, first, last);
            widen(s.down_low.of_expert(expert, s.F, s.H), count, of_group(m.down_low, group), output, first, last);
        }
        for (long row = 0; row < rows; ++row)
            for (long c = first; c < last; c += LANES) {
                const int width = last - c < LANES ? (int)(last - c) : LANES;
                const int* places = m.places + row * s.top_k;
                Vec sum = load(m.output[places[0]] + c, width);
                for (int k = 1; k < s.top_k; ++k) sum += load(m.output[places[k]] + c, width);
                store(x[row] + c, load(x[row] + c, width) + sum, width);
            }
    });
}

// Logits after one token of each row.
template <class E>
static void token_step(const Team& team, const TokenStep<E>& s, float* memory) {
    Space space{memory};
    const TokenSpace<E> m(space, s);
    for (long row = 0; row < s.rows; ++row)
        for (long c = 0; c < s.H; ++c) m.x[row][c] = to_float(s.embedding[s.tokens[row] * s.H + c]);
    for (long i = 0; i < s.count; ++i) {
        const LayerStep<E>& layer = s.layers[i];
        if (layer.is_attention) attention_step(team, layer.attention, s.rows, m.x, m.rest);
        else mamba_step(team, layer.mamba, s.rows, m.x, m.rest);
        feed_forward_step(team, layer.feed_forward, s.rows, m.x, m.rest);
    }
    for (long row = 0; row < s.rows; ++row) norm_to_float(m.x[row], s.norm, m.normal[row], s.H, s.eps);
    multiply(team, s.head, (const E*)nullptr, s.V, s.H, s.rows, m.normal, {s.logits, s.V});
}
