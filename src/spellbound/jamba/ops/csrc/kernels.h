// All kernels of one instruction set, and the table by which kernels.cpp finds them.

#include "vector.h"
#include "scan_kernel.h"
#include "conv_kernel.h"
#include "row_kernel.h"
#include "step_kernel.h"

template <class E>
constexpr Table<E> table() {
    return {scan_forward<E>,   scan_backward<E>,   conv_forward<E>, conv_backward<E>, norm_forward<E>, norm_backward<E>,
            swiglu_forward<E>, swiglu_backward<E>, token_step<E>,   attend_rows<E>, multiply_row<E>};
}
static const Kernels kernels = {LANES,           CONV_CHANNELS,         scan_forward_scratch, scan_backward_scratch,
                                conv_backward_scratch, table<float>(), table<bf16>()};
