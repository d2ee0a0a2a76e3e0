// What torch's tensors on the CPU take memory from, in place of its own allocator. heap.py says why, compiles it against the
// headers of the torch that is installed, and calls spellbound_use_heap.
//
// posix_memalign, which torch calls, asks glibc for a block larger than wanted and gives back what is left on both sides.
// The freed block is then too small for the next request of the very same size. Here each block is one of malloc's as it
// came, which is found again; where it begins is kept in the eight bytes before the tensor.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

constexpr std::size_t kAlignment = c10::gAlignment;

void give_back(void* data) {
  if (data == nullptr) return;
  c10::profiledCPUMemoryReporter().Delete(data);
  std::free(static_cast<void**>(data)[-1]);
}

struct Heap final : c10::Allocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    void* data = bytes == 0 ? nullptr : take(bytes);
    return {data, data, &give_back, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }

  void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }

 private:
  static void* take(std::size_t bytes) {
    constexpr std::size_t kBeside = kAlignment + sizeof(void*);
    void* block = bytes > SIZE_MAX - kBeside ? nullptr : std::malloc(bytes + kBeside);
    TORCH_CHECK_WITH(OutOfMemoryError, block != nullptr, "no memory for a tensor of ", bytes, " bytes");
    const auto first = reinterpret_cast<std::uintptr_t>(block) + kBeside - 1;
    auto* data = reinterpret_cast<void**>(first & ~(kAlignment - 1));
    data[-1] = block;
    c10::profiledCPUMemoryReporter().New(data, bytes);  // as torch's own allocator does, for its profiler
    return data;
  }
};

}  // namespace

extern "C" void spellbound_use_heap() {
  static auto* heap = new Heap;  // never destroyed: tensors may outlive everything
  c10::SetCPUAllocator(heap, /*priority=*/1);
}
